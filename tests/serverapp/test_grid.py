"""The fold that every grid inherits, on a grid that is real but for its own fold."""

import numpy as np
import pytest

import umbel
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Grid, Replies
from umbel.updates import WeightedMean


def client_app():
    app = umbel.ClientApp()

    @app.train()
    def train(message, context):
        if context.node_id == 1:
            raise OSError("disk full")
        bad = np.nan if context.node_id == 2 else 1.0
        value = np.random.standard_normal(5).astype(np.float32) * bad
        metrics = MetricRecord({"num-examples": context.node_id + 1})
        return Message(
            RecordDict({"arrays": ArrayRecord([value]), "metrics": metrics}), reply_to=message
        )

    return app


def on_grid(main, nodes=12):
    server = umbel.ServerApp()
    server.main()(main)
    return umbel.run_simulation(server, client_app(), nodes, "inprocess", seed=3)


def requests(grid):
    content = RecordDict()
    return [Message(content, node, "train", group_id="1") for node in grid.get_node_ids()]


def test_collecting_and_folding_give_the_same():
    def main(grid, context):
        own = grid.fold(requests(grid), WeightedMean())
        inherited = Grid.fold(grid, requests(grid), WeightedMean())
        return own, inherited

    own, inherited = on_grid(main)
    assert own.value.arrays == inherited.value.arrays
    assert own.value.metrics == inherited.value.metrics
    assert own.count == inherited.count == 10
    causes = [
        [(n, e.kind, e.reason) for n, e in sorted(f.failures, key=lambda p: p[0])]
        for f in (own, inherited)
    ]
    assert causes[0] == causes[1]
    assert [(node, kind) for node, kind, _ in causes[0]] == [(1, "OSError"), (2, "RejectedReply")]


def test_the_run_hears_of_every_failure_once():
    def main(grid, context):
        Grid.fold(grid, requests(grid), WeightedMean())
        return [(f.node_id, f.kind) for f in grid.run.failures]

    assert sorted(on_grid(main)) == [(1, "OSError"), (2, "RejectedReply")]


def test_no_usable_reply_is_no_value():
    def main(grid, context):
        messages = [Message(RecordDict(), node, "train") for node in (1, 2)]
        return Grid.fold(grid, messages, WeightedMean())

    folded = on_grid(main)
    assert (folded.value, folded.count, len(folded.failures)) == (None, 0, 2)


class TestReplies:
    def replies(self, read):
        messages = [Message(RecordDict(), node, "train") for node in range(3)]
        return Replies(iter(messages), read.append), messages

    def test_iterating_waits_for_no_more_than_it_gives(self):
        read = []
        replies, messages = self.replies(read)
        assert next(iter(replies)) is messages[0]
        assert read == messages[:1]

    def test_they_can_be_counted_indexed_and_read_again(self):
        read = []
        replies, messages = self.replies(read)
        assert len(replies) == 3
        assert replies[-1] is messages[2]
        assert replies[:2] == messages[:2]
        assert list(replies) == list(replies) == messages
        assert list(reversed(replies)) == messages[::-1]
        assert read == messages

    def test_two_readers_do_not_take_from_each_other(self):
        replies, messages = self.replies([])
        one, two = iter(replies), iter(replies)
        assert [next(one), next(two), next(one), next(one), next(two)] == [
            messages[i] for i in (0, 0, 1, 2, 1)
        ]
        with pytest.raises(IndexError):
            replies[3]
