"""The guard around apps: what a hostile one does to its files, and what a crash leaves behind."""

import asyncio
import json
import os
import struct

import numpy as np
import pytest

from umbel.base import ConfigError, PolicyRefused, ProtocolError, VirtualClock, content_hash
from umbel.clientapp import parse_policy
from umbel.deployment.node.delivery import _reply
from umbel.deployment.node.guard import LEDGER_NAME, Guard
from umbel.deployment.node.journal import Failure, Journal, Outcome
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ArrayRecord, ErrorCode, MetricRecord, RecordDict, decode, encode

SECRET = "Mrs-Smith-born-1950"
POLICY = """
contact = "dpo@clinic"
[messages]
types = ["train"]
per-run = 5
[opening-hours]
time-zone = "UTC"
open = ["mon-sun 08:00-18:00"]
[arrays]
[metrics.loss]
[privacy]
data-set = "d"
clip = 1.0
noise-multiplier = 8.0
epsilon = 2.5
delta = 1e-6
"""
NOON, MIDNIGHT = 12 * 3600.0, 24 * 3600.0


class Node:
    """What a guard works on, and a hostile app in place of a worker."""

    def __init__(self, folder, policy=POLICY):
        self.folder = folder
        self.clock = VirtualClock(NOON)
        self.model = b"".join(
            encode(RecordDict({"arrays": ArrayRecord({"w": np.zeros(100, np.float32)})}))
        )
        self.body = folder / "body"
        self.body.write_bytes(self.model)
        self.open(policy)

    def open(self, policy=POLICY):
        self.events = []
        self.journal = Journal(self.folder / "node")
        self.guard = Guard(
            parse_policy(policy), self.journal, self.folder / "node", self.events.append, self.clock
        )

    def close(self):
        self.guard.close()
        self.journal.close()

    def task(self, message_id="m", **fields):
        item = wire.Object(hash=content_hash([self.model]), size_bytes=len(self.model))
        run = wire.RunInfo(run_id="run")
        usual = {"run": run, "message_type": "train", "body": item, "ttl_s": 60}
        return wire.Task(message_id=message_id, **(usual | fields))

    def answer(self, task, reply=None, act=lambda path: None, commit=True):
        """Take a task on and have the app answer it; return what came of it."""
        path = self.journal.prepare(task.run.run_id, task.message_id).reply

        async def work():
            path.write_bytes(self.honest() if reply is None else reply)
            act(path)
            return Outcome(task.run.run_id, task.message_id, SECRET, SECRET, None, SECRET)

        self.guard.admit(task)
        outcome = asyncio.run(self.guard.execute(task, self.body, "app", work))
        if commit:
            self.journal.commit(outcome)
        return outcome

    def honest(self, **records):
        arrays = ArrayRecord({"w": np.full(100, 0.01, np.float32)})
        return b"".join(encode(RecordDict({"arrays": arrays, **records})))

    def left(self, outcome):
        """Return the bytes that are about to leave."""
        assert outcome.failure is None, outcome.failure
        data = self.journal.reply_path(outcome).read_bytes()
        assert (outcome.size_bytes, outcome.hash) == (len(data), content_hash([data]))
        return data

    def ledger(self):
        lines = (self.folder / "node" / LEDGER_NAME).read_text().splitlines()
        return [json.loads(line) for line in lines]

    def releases(self):
        return [e for e in self.ledger() if e["event"] == "closed" and e["noise-multipliers"]]


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    node.close()


class TestHostileApps:
    def test_nothing_travels_between_the_lines_of_a_file(self, node):
        size = struct.unpack("<Q", node.honest()[:8])[0]
        header = json.loads(node.honest()[8 : 8 + size])
        header["__metadata__"]["note"] = SECRET
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 64)
        reply = struct.pack("<Q", len(text)) + text + node.honest()[8 + size :]
        assert decode(reply)["arrays"]["w"].shape == (100,)  # it can be read, note and all
        data = node.left(node.answer(node.task(), reply))
        assert SECRET.encode() not in data
        assert list(decode(data)["arrays"]) == ["w"]

    def test_a_file_that_is_changed_afterwards_is_not_what_leaves(self, node):
        handles = []
        outcome = node.answer(
            node.task(), act=lambda path: handles.append(os.open(path, os.O_RDWR))
        )
        os.pwrite(handles[0], SECRET.encode() * 10, 0)
        os.close(handles[0])
        assert SECRET.encode() not in node.left(outcome)

    def test_nor_is_a_file_that_is_replaced_before_it_is_sent(self, node):
        outcome = node.answer(node.task())
        sent = asyncio.run(_reply(None, node.journal, outcome))
        assert sent.content == node.left(outcome)
        node.journal.reply_path(outcome).write_bytes(node.honest())
        with pytest.raises(ProtocolError, match="changed on this node"):
            asyncio.run(_reply(None, node.journal, outcome))

    def test_a_message_that_the_app_changed_is_no_measure(self, node):
        raw = np.full(100, 1e6, np.float32)
        forged = b"".join(encode(RecordDict({"arrays": ArrayRecord({"w": raw})})))
        outcome = node.answer(node.task(), forged, act=lambda path: node.body.write_bytes(forged))
        assert outcome.failure.kind == "ProtocolError"
        assert node.releases() == []

    @pytest.mark.parametrize("reply", [b"", b"\0" * 8, SECRET.encode() * 100])
    def test_what_is_no_reply(self, node, reply):
        outcome = node.answer(node.task(), reply)
        assert outcome.failure.code == ErrorCode.REPLY_MESSAGE_UNAVAILABLE
        assert SECRET not in outcome.failure.reason

    def test_a_reply_without_end_is_not_read_to_its_end(self, node):
        outcome = node.answer(node.task(), act=lambda path: os.truncate(path, 10**12))
        assert outcome.failure.code == ErrorCode.POLICY_REFUSED
        assert "[arrays.max-bytes]" in outcome.failure.reason

    def test_no_reply_at_all(self, node):
        outcome = node.answer(node.task(), act=os.unlink)
        assert outcome.failure.kind == "FileNotFoundError"
        assert "withholds the text" in outcome.failure.reason

    @pytest.mark.parametrize("error", [ValueError(SECRET), KeyError(SECRET), MemoryError(SECRET)])
    def test_what_the_workers_answer_makes_the_agent_stumble_over(self, node, error):
        async def work():
            raise error

        node.guard.admit(node.task())
        outcome = asyncio.run(node.guard.execute(node.task(), node.body, "app", work))
        assert SECRET not in str(outcome)
        assert outcome.failure.kind == type(error).__name__
        assert SECRET in node.events[-1].text  # to the owner

    def test_a_failure_is_told_without_its_text(self, node):
        async def work():
            return Outcome("run", "m", failure=Failure(1950, SECRET, SECRET))

        node.guard.admit(node.task())
        outcome = asyncio.run(node.guard.execute(node.task(), node.body, "app", work))
        assert SECRET not in str(outcome)
        assert outcome.failure.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION

    def test_a_refusal_tells_the_owner_more_than_the_server(self, node):
        reply = node.honest(metrics=MetricRecord({SECRET: 1.0}))
        outcome = node.answer(node.task(), reply)
        assert outcome.failure.kind == "PolicyRefused"
        assert SECRET not in outcome.failure.reason
        assert (node.events[-1].kind, SECRET in node.events[-1].text) == ("refused", True)


class TestBudget:
    def spend(self, node):
        count = 0
        while (outcome := node.answer(node.task(f"m{count}"))).failure is None:
            count += 1
        return count, outcome.failure

    def test_it_ends_and_stays_at_its_end(self, node):
        count, failure = self.spend(node)
        assert count == len(node.releases()) == 4
        assert "budget of the data set is spent" in failure.reason
        node.close()
        node.open()
        assert "of the budget of 'd', ε = 2.5, 2.2" in str(node.guard)
        node.clock.advance(2 * 3600)

        async def never():
            raise AssertionError("the app was run, though nothing of it may leave")

        task = node.task("again", run=wire.RunInfo(run_id="other"))
        node.guard.admit(task)
        outcome = asyncio.run(node.guard.execute(task, node.body, "app", never))
        assert "is spent" in outcome.failure.reason

    def test_each_reply_has_noise_of_its_own(self, node):
        first, second = (node.left(node.answer(node.task(f"m{number}"))) for number in range(2))
        assert decode(first)["arrays"] != decode(second)["arrays"]

    def test_it_is_on_disk_before_the_reply_is_in_the_journal(self, node, monkeypatch):
        def crash(source, target):
            assert len(node.releases()) == 1
            raise KeyboardInterrupt

        monkeypatch.setattr("umbel.deployment.node.guard.os.replace", crash)
        with pytest.raises(KeyboardInterrupt):
            node.answer(node.task())
        assert node.journal.done() == []


class TestCrashes:
    def test_before_the_reply_is_let_out_it_is_as_if_nothing_had_happened(self, node):
        node.guard.admit(node.task())
        node.close()
        node.open()
        node.answer(node.task())
        assert len(node.releases()) == 1
        assert sum(entry["event"] == "admitted" for entry in node.ledger()) == 2
        assert node.guard._account.of_run("run") == 1

    def test_in_the_moment_between_ledger_and_journal_nothing_leaves_twice(self, node):
        outcome = node.answer(node.task(), commit=False)
        assert node.journal.reply_path(outcome).exists()
        node.close()
        node.open()
        assert node.journal.done() == []
        assert not node.journal.reply_path(outcome).exists()
        node.answer(node.task())
        assert len(node.releases()) == 2  # on the safe side

    def test_a_reply_of_this_policy_leaves_after_it(self, node):
        outcome = node.answer(node.task())
        node.close()
        node.open()
        assert node.journal.done() == [outcome]

    @pytest.mark.parametrize("before", ["", "of another text"])
    def test_a_reply_that_was_not_let_out_under_this_policy_never_leaves(self, node, before):
        task = node.task()
        path = node.journal.prepare("run", "m").reply
        path.write_bytes(node.honest())
        facts = {"hash": content_hash([node.honest()]), "policy": before}
        node.journal.commit(Outcome("run", task.message_id, len(node.honest()), **facts))
        node.close()
        node.open()
        (outcome,) = node.journal.done()
        assert outcome.failure.code == ErrorCode.POLICY_REFUSED
        assert "other rules" in outcome.failure.reason
        node.close()
        node.open()
        assert node.journal.done() == [outcome]


def test_the_node_opens_and_closes_with_its_clock(node):
    node.answer(node.task("a"))
    node.clock.advance(MIDNIGHT - NOON)
    with pytest.raises(PolicyRefused, match="closed now"):
        node.guard.admit(node.task("b"))
    node.clock.advance(10 * 3600)
    assert node.answer(node.task("b")).failure is None


def test_messages_of_a_run_are_counted_over_restarts(node):
    node.close()
    node.open(POLICY.replace("epsilon = 2.5", "epsilon = 9.0"))
    for number in range(5):
        assert node.answer(node.task(f"m{number}")).failure is None
    node.close()
    node.open(POLICY.replace("epsilon = 2.5", "epsilon = 9.0"))
    with pytest.raises(PolicyRefused, match="5 messages of one run"):
        node.guard.admit(node.task("m5"))


def test_when_somebody_writes_to_the_ledger_nothing_leaves_any_more(node):
    def forge(path):
        with (node.folder / "node" / LEDGER_NAME).open("a") as file:
            file.write("{}\n")

    outcome = node.answer(node.task(), act=forge)
    assert outcome.failure.kind == "JournalCorrupt"
    os.truncate(node.folder / "node" / LEDGER_NAME, 0)


def test_one_ledger_has_one_node(node):
    with pytest.raises(ConfigError, match="another node"):
        Guard(parse_policy(POLICY), node.journal, node.folder / "node", node.events.append)
