"""``umbel server --fsync``: what the journal names is on the disk before the journal names it."""

from pathlib import Path

import pytest
from local_deployment import LocalDeployment

from umbel.coordinator import (
    MessagesPushed,
    ReplyReceived,
    RunEnded,
    RunSubmitted,
    event_from_json,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SCENARIOS = Path(__file__).parent / "apps" / "scenarios"
RECORDED = Path(__file__).parent / "harness" / "recorded"


def named(event):
    """Return the objects that an event names."""
    match event:
        case RunSubmitted(objects=objects):
            return objects
        case MessagesPushed(messages=messages):
            return [message.body for message in messages]
        case ReplyReceived(answer=answer):
            return [answer.object]
    return []


class Disk:
    """What a power cut leaves, as the calls tell that were made: what was synced, under its name.

    A file's content is safe once it was synced; its name, once its folder was after that.
    """

    def __init__(self):
        self.content = set()
        self._names = {}
        self._begun = {}
        self.safe = set()

    def take(self, at, kind, words):
        if kind == "syncing":
            self._begun[words[0]] = at
        elif kind == "synced":
            path, begun = words[0], self._begun[words[0]]
            self.content.add(path)
            for name, named_at in self._names.items():
                if str(Path(name).parent) == path and named_at < begun:
                    self.safe.add(name)
        elif kind == "named":
            source, target = words
            self.safe.discard(target)
            self._names.pop(target, None)
            if source in self.content:
                self._names[target] = at


def test_a_power_cut_takes_nothing_that_the_journal_names(tmp_path):
    with LocalDeployment(tmp_path / "here") as here:
        log = tmp_path / "disk.log"
        path = here.environment["PYTHONPATH"]
        here.environment |= {"PYTHONPATH": f"{RECORDED}:{path}", "DISK_LOG": str(log)}
        here.start_server("--fsync")
        for number in range(2):
            here.start_node(number, "--trust-any")
        here.connect().close()
        told = here.umbel(
            *("run", SCENARIOS, "--on", "local", "--stream", "--json", "-c", "size=20000")
        )
        assert told["status"] == "succeeded"
    disk, count, folder = Disk(), 0, here.run_folder(told["run-id"])
    left = {
        folder,
        *(folder / name for name in ("log.jsonl", "metrics.jsonl", "model.safetensors")),
    }
    for at, line in enumerate(log.read_text().splitlines()):
        kind, *words = line.split("\t")
        disk.take(at, kind, words)
        if kind == "journalling":
            event = event_from_json(words[0].encode())
            for thing in named(event):
                file = here.data / "objects" / "objects" / thing.hash[:2] / thing.hash
                assert str(file) in disk.safe, f"a power cut could take {thing} of {event}"
                count += 1
            if isinstance(event, RunEnded):
                assert {str(path) for path in left} <= disk.content
                left.clear()
    assert not left
    assert count == 1 + 2 * 2 + 2 * 2  # the app; in each round, for two nodes, model and reply
