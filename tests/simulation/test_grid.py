"""The grid of a simulation: messages in, replies out."""

from __future__ import annotations

import os

import numpy as np
import pytest

from umbel.base import UsageError
from umbel.records import ArrayRecord, ConfigRecord, Error, Message, Metadata, RecordDict
from umbel.updates import Collect

BACKENDS = pytest.mark.parametrize(
    "backend", ["inprocess", pytest.param("processes", marks=pytest.mark.slow)]
)


def pull_all(grid, ids):
    replies = []
    while len(replies) < len(ids):
        waiting = set(ids) - {reply.metadata.reply_to_message_id for reply in replies}
        replies += grid.pull_messages(waiting)
    return replies


@BACKENDS
def test_replies_come_in_the_order_of_the_messages(backend, run_main, requests):
    def main(grid):
        nodes = [7, 2, 9, 0, 5]
        messages = requests(nodes)
        replies = grid.send_and_receive(messages)
        assert [reply.content["who"]["node"] for reply in replies] == nodes
        assert [reply.metadata.src_node_id for reply in replies] == nodes
        ids = [message.metadata.message_id for message in messages]
        assert [reply.metadata.reply_to_message_id for reply in replies] == ids
        assert {reply.metadata.run_id for reply in replies} == {grid.run.run_id}
        assert len(grid.get_node_ids()) == replies[0].content["who"]["nodes"] == 10
        return len(replies)

    assert run_main(main, backend=backend) == 5


@BACKENDS
def test_every_node_gets_its_own_content(backend, run_main):
    """Arrays of some nodes, records of others; small and large."""

    def main(grid):
        shared = ConfigRecord({"all": 1})
        messages = []
        for node in range(40):
            own = ArrayRecord({"w": np.full(20_000 if node % 10 == 0 else 3, node)})
            content = {"own": own, "shared": shared, "mine": ConfigRecord({"i": node})}
            messages.append(Message(RecordDict(content), node, "query"))
        for node, reply in enumerate(grid.send_and_receive(messages)):
            assert list(reply.content) == ["own", "shared", "mine", "who"]
            assert set(reply.content["own"]["w"].view().tolist()) == {node}
            assert reply.content["mine"]["i"] == node
        return True

    assert run_main(main, 40, backend)


@BACKENDS
def test_a_message_may_carry_nothing_and_an_empty_record(backend, run_main):
    def main(grid):
        contents = [RecordDict(), RecordDict({"arrays": ArrayRecord(), "c": ConfigRecord()})]
        messages = [Message(content, 1, "query") for content in contents]
        return [list(reply.content) for reply in grid.send_and_receive(messages)]

    assert run_main(main, backend=backend) == [["who"], ["arrays", "c", "who"]]


@BACKENDS
def test_what_was_sent_can_be_changed_afterwards(backend, run_main):
    def main(grid):
        array = np.zeros(30_000)
        content = RecordDict({"arrays": ArrayRecord({"w": array})})
        ids = []
        for value in range(3):
            array[:] = value
            ids += grid.push_messages([Message(content, node, "query") for node in range(4)])
        array[:] = -1
        replies = {r.metadata.reply_to_message_id: r for r in pull_all(grid, ids)}
        return [set(replies[i].content["arrays"]["w"].view().tolist()) for i in ids]

    assert run_main(main, 4, backend) == [{0.0}] * 4 + [{1.0}] * 4 + [{2.0}] * 4


@BACKENDS
def test_push_and_pull(backend, run_main, requests):
    def main(grid):
        ids = grid.push_messages(requests(range(6)))
        more = grid.push_messages(requests(range(3), "query.count", i=0))
        replies = pull_all(grid, [*ids, *more])
        assert sorted(r.metadata.reply_to_message_id for r in replies) == sorted([*ids, *more])
        assert all(reply.has_content() for reply in replies)
        with pytest.raises(UsageError, match="no reply can come"):
            grid.pull_messages(ids[:1])
        return len(replies)

    assert run_main(main, backend=backend) == 9


@BACKENDS
def test_messages_to_one_node_are_handled_in_order(backend, run_main, requests):
    def main(grid):
        messages = []
        for i in range(12):
            messages += requests([4, i % 3], "query.count", i=i)
        last = list(grid.send_and_receive(messages))[-2]
        ids = grid.push_messages(requests([4], "query.count", i=100))
        ids += grid.push_messages(requests([4], "query.count", i=101))
        pushed = {r.metadata.reply_to_message_id: r for r in pull_all(grid, ids)}
        return last.content["seen"]["order"], pushed[ids[1]].content["seen"]["order"]

    for workers in (1, 3):
        first, then = run_main(main, backend=backend, workers=workers)
        assert first == list(range(12))
        assert then == [*range(12), 100, 101]


@BACKENDS
def test_a_fold_over_a_node_twice_is_the_fold_over_its_replies(backend, run_main, requests):
    def main(grid):
        messages = []
        for i in range(5):
            messages += requests([1, 2], "query.count", i=i)
        folded = grid.fold(messages, Collect())
        return folded.count, [list(content["seen"]["order"]) for content in folded.value]

    count, orders = run_main(main, backend=backend)
    assert count == 10
    assert orders == [list(range(i + 1)) for i in range(5) for _ in range(2)]


@BACKENDS
def test_state_lives_across_every_kind_of_call(backend, run_main, requests):
    def main(grid):
        grid.fold(requests(range(5), "query.count", i=0), Collect())
        grid.push_messages(requests(range(5), "query.count", i=1))
        grid.fold(requests(range(5), "query.count", i=2), Collect())
        replies = grid.send_and_receive(requests(range(5), "query.count", i=3))
        return [reply.content["seen"]["order"] for reply in replies]

    assert run_main(main, 5, backend) == [[0, 1, 2, 3]] * 5


@BACKENDS
def test_calls_without_messages(backend, run_main):
    def main(grid):
        folded = grid.fold([], Collect())
        assert (folded.value, folded.count, folded.failures) == (None, 0, [])
        assert list(grid.send_and_receive([])) == []
        assert grid.push_messages([]) == []
        assert grid.pull_messages([]) == []
        return True

    assert run_main(main, backend=backend)


def test_misuse_is_told(run_main, requests):
    def main(grid):
        for node in (10, -1):
            with pytest.raises(UsageError, match=f"no node {node}"):
                grid.send_and_receive(requests([node]))
        with pytest.raises(UsageError, match="no reply can come to message 'x'"):
            grid.pull_messages(["x"])
        metadata = Metadata(dst_node_id=1, message_type="query")
        with pytest.raises(UsageError, match="needs content"):
            grid.push_messages([Message(error=Error(0, "none"), metadata=metadata)])
        return grid.fold(requests(range(3)), Collect()).count

    assert run_main(main, backend="inprocess") == 3


@pytest.mark.slow
def test_thousands_of_large_replies_at_once(run_main, requests):
    """More than there are descriptors, were each to hold one; and they outlive the run."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def main(grid):
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, before[1]))
        try:
            replies = list(grid.send_and_receive(requests(range(600), "query.large")))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        return replies

    replies = run_main(main, 600)
    assert all(r.content["arrays"]["0"].view()[-1] == i for i, r in enumerate(replies))
    assert not replies[0].content["arrays"].views()["0"].flags.writeable
    replies.clear()
    assert len(os.listdir("/proc/self/fd")) < 100


@pytest.mark.slow
def test_replies_stream_in_while_others_are_on_their_way(run_main, requests):
    def main(grid):
        messages = requests([0, 1]) + requests([2], "train", do="hang") + requests([3])
        replies = iter(grid.send_and_receive(messages, timeout=0.5))
        return [next(replies).content["who"]["node"] for _ in range(2)]

    assert run_main(main) == [0, 1]


@pytest.mark.slow
def test_replies_that_were_pulled_are_let_go_one_by_one(run_main, requests):
    """Though others of the same call are still to come."""

    def main(grid):
        ids = grid.push_messages(requests(range(20), "query.large"))
        grid.finish()
        before = len(os.listdir("/proc/self/fd"))
        for name in ids[:-1]:
            grid.pull_messages([name])
        return before - len(os.listdir("/proc/self/fd"))

    assert run_main(main, 20) == 19
