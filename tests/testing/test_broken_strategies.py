"""Each check of strategies finds one that breaks the contract."""

import numpy as np
import pytest

from umbel.records import ArrayRecord, RecordDict
from umbel.strategies import FedAvg, FedAvgM
from umbel.testing import strategy_checks
from umbel.updates import Aggregator

ANY_NUMBER = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
CHECKS = dict(strategy_checks())
SLOW = "same_bits_on_backends"


class ByHand(FedAvg):
    """Averages the replies itself, without any care; each class below breaks one thing more."""

    def __init__(self):
        super().__init__(**ANY_NUMBER)

    def contents(self, replies):
        return [reply.content for reply in replies if reply.has_content()]

    def aggregate_train(self, server_round, replies):
        arrays = [content["arrays"].views() for content in self.contents(replies)]
        mean = {
            key: np.asarray(sum(a[key].astype(np.float64) for a in arrays) / len(arrays)).astype(
                first.dtype
            )
            for key, first in arrays[0].items()
        }
        return ArrayRecord(mean), None


class TakesNaN(ByHand):
    def __init__(self):
        FedAvg.__init__(self, require_finite=False, **ANY_NUMBER)


class Decays(ByHand):
    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        return ArrayRecord(
            {k: (a * 0.9).astype(a.dtype) if a.dtype.kind == "f" else a for k, a in views(arrays)}
        ), metrics


def views(arrays):
    return arrays.views().items()


class Widens(ByHand):
    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        return ArrayRecord({k: a.astype(np.float64) for k, a in views(arrays)}), metrics


class NeedsVariance(ByHand):
    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        return super().aggregate_train(server_round, replies[: len(replies) // (len(replies) - 1)])


class TrustsAll(ByHand):
    def contents(self, replies):
        return [reply.content for reply in replies]


class AsksForAll(ByHand):
    def aggregate_train(self, server_round, replies):
        if len(list(replies)) < len(self.run.cohort):
            raise IndexError("a reply is missing")
        return super().aggregate_train(server_round, replies)


class GoesOnWithNone(FedAvg):
    def __init__(self):
        super().__init__(on_shortfall="skip", **ANY_NUMBER)

    def replies_needed(self, cohort):
        return 0

    def aggregate_train(self, server_round, replies):
        if not any(reply.has_content() for reply in replies):
            return ArrayRecord({k: a * 0 for k, a in views(self.current_arrays)}), None
        return super().aggregate_train(server_round, replies)


class StepsInFoldOnly(FedAvg):
    """Does more in ``aggregate_train`` than in ``finish_train``."""

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, list(replies)[:-1])
        self.called = True
        return arrays, metrics

    def start(self, grid, initial_arrays, **options):
        type(self).aggregate_train, own = FedAvg.aggregate_train, type(self).aggregate_train
        try:
            return super().start(grid, initial_arrays, **options)
        finally:
            type(self).aggregate_train = own


class WritesToTheModel(ByHand):
    def aggregate_train(self, server_round, replies):
        for array in self.current_arrays.lent().values():
            array += 1
        return super().aggregate_train(server_round, replies)


class CountsAllItsObjects(ByHand):
    calls = 0

    def aggregate_train(self, server_round, replies):
        CountsAllItsObjects.calls += 1
        arrays, metrics = super().aggregate_train(server_round, replies)
        shift = np.float32(CountsAllItsObjects.calls)
        return ArrayRecord({k: a + shift if k == "w" else a for k, a in views(arrays)}), metrics


class ForgetsItsState(FedAvgM):
    def __init__(self):
        super().__init__(server_momentum=0.9, **ANY_NUMBER)

    def state_dict(self):
        return RecordDict()


class LoadsAnything(ByHand):
    def load_state_dict(self, state):
        pass


class CountsParts(Aggregator):
    """Counts how often partial sums travelled, which depends on the workers."""

    def __init__(self, inner):
        self.inner = inner

    def zero(self):
        return [self.inner.zero(), 0]

    def add(self, acc, content):
        return [self.inner.add(acc[0], content), acc[1]]

    def merge(self, left, right):
        return [self.inner.merge(left[0], right[0]), left[1] + right[1]]

    def finish(self, acc):
        return self.inner.finish(acc[0]), acc[1]

    def pack(self, acc):
        packed = self.inner.pack(acc[0])
        packed["totals"]["travels"] = acc[1] + 1
        return packed

    def unpack(self, content):
        return [self.inner.unpack(content), content["totals"]["travels"]]


class CountsTravels(FedAvg):
    def train_aggregator(self, server_round):
        return CountsParts(super().train_aggregator(server_round))

    def finish_train(self, server_round, value):
        arrays, metrics = super().finish_train(server_round, value[0])
        metrics["travels"] = value[1]
        return arrays, metrics


BROKEN = {
    "zero_update": Decays,
    "shapes_and_dtypes_stay": Widens,
    "one_node": NeedsVariance,
    "some_nodes_fail": TrustsAll,
    "replies_go_missing": AsksForAll,
    "all_nodes_fail": GoesOnWithNone,
    "nan_is_rejected": TakesNaN,
    "order_of_replies": ByHand,
    "fold_is_aggregate": StepsInFoldOnly,
    "current_arrays_stay": WritesToTheModel,
    "runs_are_repeatable": CountsAllItsObjects,
    "state_travels": ForgetsItsState,
    "a_run_is_resumed": ForgetsItsState,
    "state_of_others_is_refused": LoadsAnything,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_found(name):
    with pytest.raises(AssertionError):
        CHECKS[name](BROKEN[name])


@pytest.mark.slow
def test_bits_that_depend_on_workers_are_found():
    with pytest.raises(AssertionError, match="worker processes give other bits"):
        CHECKS[SLOW](CountsTravels)


def test_every_check_has_a_strategy_that_fails_it():
    assert {*BROKEN, SLOW} == set(CHECKS)
