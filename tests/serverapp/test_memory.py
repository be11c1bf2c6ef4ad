"""The round loop holds the published model, and one accumulator beside it."""

import tracemalloc
import weakref

import numpy as np
import pytest

from umbel.base import Seeds
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Run
from umbel.strategies import FedAvg
from umbel.testing import FakeGrid

ITEMS = 1 << 18
MODEL_BYTES = 2 * ITEMS * 4
NODES = 6
"""Members of one block of the reduction tree, which need one accumulator."""


def fresh():
    return ArrayRecord({key: np.ones(ITEMS, np.float32) for key in ("a", "b")})


def reply_with(arrays, message):
    metrics = MetricRecord({"num-examples": 1, "loss": 0.5})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@pytest.mark.parametrize("resumable", [False, True])
def test_fedavg_takes_one_model_beyond_the_published_one(tmp_path, resumable):
    # What the replies take is not what is measured: they are all there before.
    answer = fresh()
    run = Run(seeds=Seeds(7), folder=tmp_path / "run", resumable=resumable)
    grid = FakeGrid(lambda message: reply_with(answer, message), NODES, run)
    tracemalloc.start()
    try:
        FedAvg().start(grid, fresh(), num_rounds=3)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        run.close()
    assert peak_bytes < (1 + 1.5) * MODEL_BYTES


def test_replies_are_made_one_at_a_time_and_let_go():
    made = []

    def handler(message):
        assert all(ref() is None for ref in made), "a reply is still held"
        record = fresh()
        made.extend(weakref.ref(value) for value in record.lent().values())
        return reply_with(record, message)

    result = FedAvg().start(FakeGrid(handler, NODES), fresh())
    assert not result.failures
    assert len(made) == 3 * 2 * NODES * 2


class Storing(FakeGrid):
    """Hands back other arrays than it was given, as a grid does that stores models."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.given = []

    def publish(self, arrays):
        self.given += [weakref.ref(value) for value in arrays.lent().values()]
        return super().publish(ArrayRecord({k: a.numpy() for k, a in arrays.items()}))


def test_nobody_keeps_what_was_published():
    def handler(message):
        assert all(ref() is None for ref in grid.given), "a model is still held"
        return reply_with(message.content["arrays"], message)

    grid = Storing(handler, NODES)
    result = FedAvg().start(grid, fresh())
    assert not result.failures
    assert len(grid.given) == (1 + 3) * 2
