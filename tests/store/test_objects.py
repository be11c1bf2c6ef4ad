"""Objects on disk: whole under their names, whatever happens on the way."""

import errno
import os
import random
import resource
import subprocess
import sys
from threading import Thread

import pytest

from umbel.base import ProtocolError, StoreFull, VirtualClock, content_hash
from umbel.store import ObjectStore

DATA = random.Random(0).randbytes(5000)
NAME = content_hash([DATA])
OTHER = content_hash([b"other"])


@pytest.fixture
def clock():
    return VirtualClock(1000.0)


@pytest.fixture
def store(tmp_path, clock):
    return ObjectStore(tmp_path, max_bytes=12_000, durable=False, clock=clock)


def put(store, data):
    name = content_hash([data])
    store.write(name, 0, data)
    return store.finish(name, len(data))


def test_an_object_written_in_pieces(store):
    assert (store.size(NAME), store.offset(NAME)) == (None, 0)
    store.write(NAME, 0, DATA[:2000])
    assert (store.size(NAME), store.offset(NAME)) == (None, 2000)
    assert not store.path(NAME).exists()
    store.write(NAME, 2000, memoryview(DATA)[2000:])
    path = store.finish(NAME, len(DATA))
    assert path == store.path(NAME)
    assert path.read_bytes() == DATA
    assert (store.size(NAME), store.total_bytes()) == (5000, 5000)
    store.write(NAME, 0, b"late")  # by one who sends the same
    assert store.finish(NAME, len(DATA)).read_bytes() == DATA


def test_an_empty_object(store):
    name = content_hash([])
    assert store.finish(name, 0).read_bytes() == b""


def test_an_upload_goes_on_after_a_restart(store, tmp_path):
    store.write(NAME, 0, DATA[:3000])
    again = ObjectStore(tmp_path)
    assert (again.offset(NAME), again.total_bytes()) == (3000, 3000)
    again.write(NAME, 3000, DATA[3000:])
    assert again.finish(NAME, len(DATA)).read_bytes() == DATA
    assert ObjectStore(tmp_path).total_bytes() == 5000


def test_a_wrong_hash_is_refused_and_forgotten(store):
    store.write(NAME, 0, DATA[:-1] + b"?" + b"!")
    with pytest.raises(ProtocolError, match="do not have the hash"):
        store.finish(NAME, len(DATA) + 1)
    assert (store.offset(NAME), store.size(NAME), store.total_bytes()) == (0, None, 0)
    assert put(store, DATA).read_bytes() == DATA


def test_a_damaged_partial_is_noticed_after_a_restart(store, tmp_path):
    store.write(NAME, 0, DATA[:3000])
    (tmp_path / "incoming" / NAME).write_bytes(bytes(3000))
    again = ObjectStore(tmp_path)
    again.write(NAME, 3000, DATA[3000:])
    with pytest.raises(ProtocolError, match="do not have the hash"):
        again.finish(NAME, len(DATA))


def test_an_upload_that_is_not_complete_can_go_on(store):
    store.write(NAME, 0, DATA[:10])
    with pytest.raises(ProtocolError, match="10 of 5000 bytes"):
        store.finish(NAME, 5000)
    store.write(NAME, 10, DATA[10:])
    store.finish(NAME, 5000)


def test_a_gap_is_refused_and_an_overlap_is_skipped(store):
    store.write(NAME, 0, DATA[:100])
    with pytest.raises(ProtocolError, match="gap"):
        store.write(NAME, 101, DATA[101:])
    store.write(NAME, 50, DATA[50:80])
    assert store.offset(NAME) == 100
    store.write(NAME, 50, DATA[50:])
    store.finish(NAME, 5000)


@pytest.mark.parametrize("name", ["", "ab", "../" + NAME, NAME.upper(), NAME + "\n", "/" + NAME])
def test_only_a_hash_is_a_name(store, name):
    for ask in (store.path, store.size, store.offset, store.touch, store.delete):
        with pytest.raises(ProtocolError, match="64 hexadecimal digits"):
            ask(name)
    with pytest.raises(ProtocolError):
        store.write(name, 0, b"x")


def test_the_bound_holds_and_room_can_be_made(store, clock):
    put(store, DATA)
    clock.advance(1)
    put(store, DATA[:4000])
    third = content_hash([DATA[::-1]])
    store.write(third, 0, DATA[::-1][:2000])
    with pytest.raises(StoreFull, match="do not fit"):
        store.write(third, 2000, DATA[::-1][2000:])
    assert (store.offset(third), store.total_bytes()) == (2000, 11_000)
    assert store.sweep(lambda name: False, keep_bytes=9000) == [NAME]  # the longest idle
    store.write(third, 2000, DATA[::-1][2000:])
    store.finish(third, 5000)
    assert store.total_bytes() == 9000


def test_a_sweep_spares_what_is_used_or_was_of_late(store, clock):
    put(store, DATA)
    used = put(store, b"used").name
    store.write(OTHER, 0, b"oth")
    os.utime(store.folder / "incoming" / OTHER, (1000, 1000))
    clock.advance(60)
    fresh = put(store, b"fresh").name
    assert set(store.sweep(lambda name: name == used, idle_s=30)) == {NAME, OTHER}
    assert store.offset(OTHER) == 0
    assert store.size(used) == 4
    assert store.size(fresh) == 5
    assert store.total_bytes() == 9


def test_an_object_in_use_is_not_deleted(store, clock):
    put(store, DATA)
    clock.advance(20)
    assert store.touch(NAME)
    assert not store.delete(NAME, idle_s=30)
    clock.advance(31)
    assert store.delete(NAME, idle_s=30)
    assert (store.size(NAME), store.touch(NAME), store.total_bytes()) == (None, False, 0)
    assert store.delete(NAME)  # again: it is gone


def test_a_file_is_taken_over(store, tmp_path):
    for _ in range(2):
        made = tmp_path / "made"
        made.write_bytes(DATA)
        assert store.put_file(made, NAME).read_bytes() == DATA
        assert not made.exists()
    assert store.total_bytes() == 5000
    big = tmp_path / "big"
    big.write_bytes(bytes(8000))
    with pytest.raises(StoreFull):
        store.put_file(big, content_hash([bytes(8000)]))
    assert big.exists()
    assert store.total_bytes() == 5000


def test_what_another_process_puts_here_is_counted_when_it_is_asked_for(store, tmp_path):
    put(ObjectStore(tmp_path), DATA)
    assert (store.size(NAME), store.total_bytes()) == (5000, 5000)
    store.delete(NAME)
    assert store.total_bytes() == 0


def test_many_senders_of_one_object(tmp_path):
    store = ObjectStore(tmp_path, durable=False)
    data = os.urandom(64_000)
    name = content_hash([data])
    paths = []

    def send(piece):
        for offset in range(0, len(data), piece):
            store.write(name, offset, data[offset : offset + piece])
        paths.append(store.finish(name, len(data)))

    threads = [Thread(target=send, args=(piece,)) for piece in (700, 1000, 1300, 64_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [store.path(name)] * 4
    assert paths[0].read_bytes() == data
    assert store.total_bytes() == len(data)
    assert not list((tmp_path / "incoming").iterdir())


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from umbel.base import StoreFull, content_hash
from umbel.store import ObjectStore
store = ObjectStore(Path(sys.argv[1]))
data = bytes(range(256)) * 40
name = content_hash([data])
store.write(name, 0, data[:3000])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
try:
    store.write(name, 3000, data[3000:])
except StoreFull as error:
    print(error)
print(store.offset(name), store.total_bytes())
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.write(name, 3000, data[3000:])
print(store.finish(name, len(data)).stat().st_size)
"""

CRASHES = """
import os, sys
from pathlib import Path
from umbel.base import content_hash
from umbel.store import ObjectStore, objects
folder = Path(sys.argv[1])
data = bytes(range(256)) * 20
name = content_hash([data])

def trace(frame, event, argument):
    global left
    if frame.f_code.co_filename != objects.__file__:
        return None
    if event == "line":
        left -= 1
        if not left:
            os._exit(9)
    return trace

def work(store):
    store.write(name, 0, data[:3000])
    store.write(name, 3000, data[3000:])
    store.finish(name, len(data))

steps = 0
while True:
    steps += 1
    here = folder / str(steps)
    store = ObjectStore(here)
    child = os.fork()
    if not child:
        left = steps
        sys.settrace(trace)
        work(store)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    again = ObjectStore(here)
    found = [path.read_bytes() for path in (here / "objects").glob("*/*")]
    assert found in ([], [data]), steps
    work(again)
    assert again.path(name).read_bytes() == data, steps
    assert again.total_bytes() == len(data), steps
    if code == 0:
        break
    assert code == 9, code
print(steps)
"""


def in_a_process(code, folder):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code, folder],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_upload_goes_on_later(tmp_path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    error, before, after = in_a_process(FULL_DISK, tmp_path)
    assert error.startswith(f"[U308] cannot write {tmp_path}/incoming/")
    assert "File too large" in error
    assert before == "3000 3000"
    assert after == "10240"


@pytest.mark.slow
def test_a_crash_at_any_line_leaves_nothing_half_under_a_final_name(tmp_path):
    (steps,) = in_a_process(CRASHES, tmp_path)
    assert int(steps) > 50


def test_what_is_not_safe_on_the_disk_yet_is_not_there(tmp_path, monkeypatch):
    store, data = ObjectStore(tmp_path), b"data"
    name = content_hash([data])
    seen = []
    monkeypatch.setattr(
        "umbel.store.objects.sync", lambda path: seen.append((path, store.size(name)))
    )
    store.write(name, 0, data)
    final = store.finish(name, 4)
    assert seen == [(tmp_path / "incoming" / name, None), (final.parent, None)]
    assert store.size(name) == 4


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("taken_over", [False, True])
def test_what_the_disk_did_not_keep_is_sent_again(tmp_path, monkeypatch, number, taken_over):
    store, synced, file = ObjectStore(tmp_path), [], tmp_path / "file"
    file.write_bytes(DATA)

    def fail(path):
        synced.append(path)
        if len(synced) == number + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("umbel.store.objects.sync", fail)
    if not taken_over:
        store.write(NAME, 0, DATA)
    with pytest.raises(StoreFull, match="Input/output error"):
        store.put_file(file, NAME) if taken_over else store.finish(NAME, 5000)
    assert (store.size(NAME), store.offset(NAME), store.total_bytes()) == (None, 0, 0)
    assert not store.path(NAME).exists()
    assert file.read_bytes() == DATA
    put(store, DATA)
    assert (store.path(NAME).read_bytes(), store.total_bytes()) == (DATA, 5000)
