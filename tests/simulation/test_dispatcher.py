"""Events in an order that they seldom come in."""

from __future__ import annotations

import pytest

from umbel.clientapp import ClientApp
from umbel.records import ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Run
from umbel.simulation.engine import SimulationGrid
from umbel.simulation.executor import Done, Executor, Lost, Running, join
from umbel.simulation.tasks import AppSpec
from umbel.simulation.worker import Worker
from umbel.updates import Collect


class ByTurns(Executor):
    """Two workers in this process; a test says which of them is done next."""

    workers = 2

    def __init__(self, app):
        spec = AppSpec(None, None, None, "run", 7, 100, {}, 1)
        self.hands = [Worker(app, spec, open_blob=bytes) for _ in range(self.workers)]
        self.batches, self.blobs, self.turns, self.too_long = {}, {}, [], {}
        self.suspect = None

    def start(self):
        pass

    def publish(self, blob, buffers):
        self.blobs[blob] = join(buffers)

    def retire(self, blob):
        del self.blobs[blob]

    def submit(self, worker, batch):
        batch.blobs = {blob: self.blobs[blob] for blob in batch.blobs}
        self.batches[worker] = batch

    def wait(self, timeout_s):
        turn = self.turns.pop(0) if self.turns else min(self.batches)
        if isinstance(turn, int):
            turn = [Done(turn, self.hands[turn].run(self.batches.pop(turn)))]
        return turn

    def running(self, worker):
        return self.too_long.get(worker)

    def kill(self, worker):
        del self.batches[worker], self.too_long[worker]
        self.turns.insert(0, [Lost(worker, (self.suspect,), "SIGKILL", "it was ended")])

    def close(self):
        pass


@pytest.fixture
def executor():
    app = ClientApp()

    @app.query()
    def count(message, context):
        calls = context.state.setdefault("calls", MetricRecord({"n": 0}))
        calls["n"] += 1
        return Message(RecordDict({"calls": calls}), reply_to=message)

    @app.query("fail")
    def fail(message, context):
        raise LookupError("too late to matter")

    return ByTurns(app)


@pytest.fixture
def grid(executor):
    return SimulationGrid(executor, Run(), 100, client_timeout_s=60.0)


class Failing(Collect):
    """Fails at the first reply."""

    def add(self, acc, content):
        raise ZeroDivisionError


def messages(count, message_type="query"):
    content = RecordDict({"config": ConfigRecord()})
    return [Message(content, node, message_type) for node in range(count)]


def calls(folded):
    return [reply["calls"]["n"] for reply in folded.value]


@pytest.mark.parametrize("message_type", ["query", "query.fail"])
def test_late_reports_of_a_call_that_was_given_up_change_nothing(message_type, grid, executor):
    """Worker 1 is still at it when the aggregator fails in worker 0."""
    executor.turns = [0]
    with pytest.raises(ZeroDivisionError):
        grid.fold([messages(2)[0], messages(2, message_type)[1]], Failing())
    executor.turns = [1]
    assert calls(grid.fold(messages(2), Collect())) == [1, 1]
    assert grid.run.failures == []


def test_who_runs_after_a_client_over_its_limit_is_not_blamed(grid, executor):
    """The client ended by itself after all, just before its worker was ended."""
    assert calls(grid.fold(messages(8), Collect())) == [1] * 8
    executor.turns = [[]]
    executor.too_long[0] = Running(position=0, since_s=-1e9)
    executor.suspect = 1
    assert calls(grid.fold(messages(8), Collect())) == [2] * 8
    assert grid.run.failures == []
    assert executor.too_long == {}
