import hashlib
import json
import math

import pytest

from umbel.base import ConfigError, ProtocolError, VirtualClock
from umbel.records import MetricRecord
from umbel.serverapp import Run, RunLog, read_log


@pytest.fixture
def path(tmp_path):
    with RunLog(tmp_path / "runs" / "log.jsonl", VirtualClock(100.0)) as log:
        for number in range(4):
            log.append("round_finished", round=number, seconds=0.5)
    return tmp_path / "runs" / "log.jsonl"


def test_entries_come_back(path):
    entries = list(read_log(path))
    assert [(e.seq, e.at, e.event) for e in entries] == [
        (number, 100.0, "round_finished") for number in range(4)
    ]
    assert [e.data["round"] for e in entries] == [0, 1, 2, 3]
    assert entries[0].prev == "0" * 64
    assert [e.prev for e in entries[1:]] == [e.hash for e in entries[:-1]]


def test_the_chain_can_be_checked_without_umbel(path):
    prev = "0" * 64
    for line in path.read_text().splitlines():
        body, _, end = line.rpartition(', "hash": "')
        assert json.loads(line)["prev"] == prev
        prev = hashlib.sha256(f"{body}}}".encode()).hexdigest()
        assert end == prev + '"}'


def change(line: bytes) -> bytes:
    return line.replace(b"0.5", b"0.6")


def resign(line: bytes) -> bytes:
    """Change a line and give it the hash that it then has."""
    body = change(line).rpartition(b', "hash": "')[0]
    return b'%b, "hash": "%b"}\n' % (body, hashlib.sha256(body + b"}").hexdigest().encode())


@pytest.mark.parametrize(
    ("tamper", "bad_line"),
    [
        (lambda lines: [lines[0], change(lines[1]), *lines[2:]], 2),
        (lambda lines: [lines[0], resign(lines[1]), *lines[2:]], 3),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [*lines, lines[0]], 5),
        (lambda lines: [lines[0], b"rubbish\n", *lines[1:]], 2),
        (lambda lines: [lines[0], b"[1, 2]\n", *lines[1:]], 2),
        (lambda lines: [lines[0], b"\xff\xfe\n", *lines[1:]], 2),
        (lambda lines: [lines[0], b"\n", *lines[1:]], 2),
        (lambda lines: [*lines[:2], lines[2][:40], *lines[3:]], 3),
        (lambda lines: [lines[0].replace(b'{"seq"', b'{ "seq"'), *lines[1:]], 1),
    ],
    ids=[
        "changed",
        "changed-and-signed",
        "removed",
        "swapped",
        "repeated",
        "rubbish",
        "list",
        "not-text",
        "empty",
        "joined",
        "spaced",
    ],
)
def test_tampering_is_found_at_its_line(path, tamper, bad_line):
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))
    entries = read_log(path)
    for _ in range(bad_line - 1):
        next(entries)
    with pytest.raises(ProtocolError) as caught:
        next(entries)
    assert caught.value.context["line"] == bad_line
    with pytest.raises(ProtocolError):
        RunLog(path)


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_left_out_and_the_log_goes_on(path, kept):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:kept])
    assert [e.seq for e in read_log(path)] == [0, 1, 2]
    with RunLog(path) as log:
        assert log.count == 3
        log.append("resumed")
    assert [(e.seq, e.event) for e in read_log(path)][2:] == [(2, "round_finished"), (3, "resumed")]


def test_an_entry_is_in_the_file_at_once(tmp_path):
    with RunLog(tmp_path / "log.jsonl") as log:
        log.append("one")
        assert [e.event for e in read_log(tmp_path / "log.jsonl")] == ["one"]


def test_numbers_that_are_not_finite_are_strict_json(tmp_path):
    values = {"a": math.nan, "b": [1.0, math.inf], "c": {"d": (-math.inf,)}, "e": 0.1}
    for log in (RunLog(), RunLog(tmp_path / "log.jsonl")):
        with log:
            log.append("odd", **values)
        (entry,) = log.entries()
        assert entry.data == {
            "a": "NaN",
            "b": [1.0, "Infinity"],
            "c": {"d": ["-Infinity"]},
            "e": 0.1,
        }


def test_text_of_any_kind_survives(tmp_path):
    text = 'line\nbreak \u2028 quote " and , "hash": "x'
    with RunLog(tmp_path / "log.jsonl") as log:
        log.append("told", text=text)
        log.append("next")
    assert next(read_log(tmp_path / "log.jsonl")).data == {"text": text}


class TestRun:
    def test_a_folder_holds_one_run(self, tmp_path):
        run = Run(folder=tmp_path)
        run.emit("run_started")
        run.close()
        with pytest.raises(ConfigError, match="holds a run already"):
            Run(folder=tmp_path)

    def test_of_two_runs_that_begin_at_once_one_gets_the_folder(self, tmp_path):
        first = Run(folder=tmp_path)
        with pytest.raises(ConfigError, match="holds a run already"):
            Run(folder=tmp_path)
        first.emit("run_started")
        first.close()
        assert [entry.event for entry in read_log(tmp_path / "log.jsonl")] == ["run_started"]

    def test_a_run_that_never_began_leaves_the_folder_free(self, tmp_path):
        Run(folder=tmp_path).close()
        assert list(tmp_path.iterdir()) == []
        Run(folder=tmp_path).close()

    def test_metrics_are_a_line_each(self, tmp_path):
        run = Run(folder=tmp_path, server_round=3)
        run.record_metrics("train", MetricRecord({"loss": math.nan, "per_class": [1, 2]}))
        run.record_metrics("server", MetricRecord({}))
        run.close()
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
            {"round": 3, "phase": "train", "metrics": {"loss": "NaN", "per_class": [1, 2]}},
            {"round": 3, "phase": "server", "metrics": {}},
        ]

    def test_observers_get_the_values_themselves(self):
        seen = []
        run = Run(observers=[seen.append])
        run.emit("odd", value=math.inf)
        run.progress(1, 2, 0)
        assert [(event.name, event.data) for event in seen] == [
            ("odd", {"value": math.inf}),
            ("progress", {"round": 0, "phase": "", "done": 1, "total": 2, "failed": 0}),
        ]
        assert [entry.event for entry in run.log.entries()] == ["odd"]
