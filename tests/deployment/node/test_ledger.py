import resource
import subprocess

import pytest

from umbel.base import ConfigError, JournalCorrupt
from umbel.deployment.node.ledger import PolicyLedger


@pytest.fixture
def file(tmp_path):
    return tmp_path / "node" / "ledger.jsonl"


def written(file, count=2):
    ledger = PolicyLedger(file)
    for number in range(count):
        ledger.append({"event": "admitted", "n": number}, durable=number % 2 == 0)
    ledger.close()
    return ledger


def test_what_was_written_is_there_again(file):
    written(file)
    again = PolicyLedger(file)
    assert [entry["n"] for entry in again.entries()] == [0, 1]
    again.append({"event": "closed", "n": 2}, durable=True)
    assert [entry["n"] for entry in again.entries()] == [0, 1, 2]
    assert file.stat().st_mode & 0o777 == 0o600
    again.close()


def test_a_line_that_a_crash_cut_short_is_dropped(file):
    written(file)
    file.write_bytes(file.read_bytes() + b'{"event": "clo')
    again = PolicyLedger(file)
    again.append({"event": "closed", "n": 2}, durable=True)
    assert [entry["n"] for entry in again.entries()] == [0, 1, 2]
    again.close()


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"n": 1}', b"\xff"])
def test_a_line_that_no_crash_explains_is_an_error(file, line):
    written(file)
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([lines[0], line, lines[1]]) + b"\n")
    ledger = PolicyLedger(file)
    with pytest.raises(JournalCorrupt, match="line 2"):
        list(ledger.entries())
    ledger.close()


@pytest.fixture
def append_only(file):
    """Return the file, to which the system lets nobody but append."""
    written(file)
    try:
        subprocess.run(["chattr", "+a", str(file)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("chattr +a takes root, and a file system that knows it")
    yield file
    subprocess.run(["chattr", "-a", str(file)], check=True)


def test_a_file_that_may_only_be_appended_to_is_enough(append_only):
    ledger = PolicyLedger(append_only)
    ledger.append({"event": "closed", "n": 2}, durable=True)
    assert [entry["n"] for entry in ledger.entries()] == [0, 1, 2]
    ledger.close()
    with append_only.open("ab") as other:
        other.write(b'{"half')
    with pytest.raises(ConfigError, match="half a line"):
        PolicyLedger(append_only)


def test_what_others_write_is_noticed(file):
    ledger = PolicyLedger(file)
    with file.open("ab") as other:
        other.write(b'{"event": "closed"}\n')
    with pytest.raises(JournalCorrupt, match="changed by somebody else"):
        ledger.append({"event": "admitted"}, durable=False)
    ledger.close()


def test_one_process_at_a_time(file):
    ledger = PolicyLedger(file)
    with pytest.raises(ConfigError, match="another node"):
        PolicyLedger(file)
    ledger.close()
    PolicyLedger(file).close()


def test_after_a_full_disk_the_next_entry_follows_whole_ones(file):
    written(file)
    ledger = PolicyLedger(file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 5, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            ledger.append({"event": "closed", "n": 2}, durable=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    ledger.append({"event": "closed", "n": 3}, durable=True)
    ledger.close()
    again = PolicyLedger(file)
    assert [entry["n"] for entry in again.entries()] == [0, 1, 3]
    again.close()
