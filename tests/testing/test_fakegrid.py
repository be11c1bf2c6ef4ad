import numpy as np
import pytest

from umbel.base import UsageError
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.strategies import FedAvg
from umbel.testing import FakeGrid


def reply(message, **metrics):
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def calls(grid):
    return [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]


def test_replies_come_in_the_order_of_messages():
    grid = FakeGrid(lambda m: reply(m, node=m.metadata.dst_node_id), nodes=[5, 3])
    replies = grid.send_and_receive(calls(grid))
    assert [r.content["metrics"]["node"] for r in replies] == [5, 3]
    assert [r.metadata.src_node_id for r in replies] == [5, 3]


def test_an_exception_is_an_error_reply_and_a_failure_of_the_run():
    def handler(message):
        if message.metadata.dst_node_id == 1:
            raise OSError("disk full")
        return reply(message)

    grid = FakeGrid(handler, nodes=2)
    good, bad = grid.send_and_receive(calls(grid))
    assert good.has_content()
    assert (bad.error.kind, bad.error.reason) == ("OSError", "disk full")
    assert [(f.node_id, f.kind, f.phase) for f in grid.run.failures] == [(1, "OSError", "query")]


def test_none_is_a_reply_that_never_comes():
    grid = FakeGrid(lambda m: reply(m) if m.metadata.dst_node_id else None, nodes=2)
    assert len(grid.send_and_receive(calls(grid), timeout=5)) == 1
    assert [(f.node_id, f.kind) for f in grid.run.failures] == [(0, "ReplyTimeout")]
    ids = grid.push_messages(calls(grid))
    assert len(grid.pull_messages(ids)) == 1
    assert grid.pull_messages(ids[:1]) == []


def test_a_pushed_message_is_answered_once():
    grid = FakeGrid(reply)
    ids = grid.push_messages(calls(grid))
    assert len(grid.pull_messages(ids)) == 2
    with pytest.raises(UsageError, match="no reply can come"):
        grid.pull_messages(ids)


def test_a_message_to_nowhere():
    with pytest.raises(UsageError, match="there is no node 7"):
        FakeGrid(reply).push_messages([Message(RecordDict(), 7, "query")])


def test_a_strategy_runs_on_it():
    def handler(message):
        content = RecordDict({"metrics": MetricRecord({"num-examples": 1, "loss": 0.5})})
        if message.metadata.message_type == "train":
            value = message.content["arrays"]["0"].view()
            content["arrays"] = ArrayRecord([value + message.metadata.dst_node_id])
        return Message(content, reply_to=message)

    result = FedAvg().start(FakeGrid(handler, nodes=3), ArrayRecord([np.zeros(2)]), num_rounds=2)
    assert result.arrays["0"].view().tolist() == [2.0, 2.0]
    assert result.evaluate_metrics_clientapp[2]["loss"] == 0.5
