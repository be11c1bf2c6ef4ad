"""With one seed, the model has the same bits wherever its clients run."""

from __future__ import annotations

import random

import numpy as np
import pytest

from umbel.records import ArrayRecord, MetricRecord
from umbel.strategies import FedAdam, FedAvg

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("nodes", [1, 2, 3, 10, 257, 1000])
def test_for_any_number_of_workers(nodes, learn, digest):
    """Its clients use ``random``, ``numpy.random`` and their state."""
    expected = digest(learn(nodes=nodes, backend="inprocess", rounds=3))
    for workers in (1, 2, 4):
        assert digest(learn(nodes=nodes, workers=workers, rounds=3)) == expected


def test_for_large_models(learn, digest):
    expected = digest(learn(nodes=11, backend="inprocess", items=100_000))
    for workers in (1, 2, 4):
        assert digest(learn(nodes=11, workers=workers, items=100_000)) == expected


@pytest.mark.parametrize("backend", ["inprocess", "processes"])
def test_with_torch_imported_by_the_first_client(backend, learn, digest):
    """A generator that comes to be in the middle of a call is seeded as well."""
    single = digest(learn("learn_with_torch", nodes=5, workers=1))
    assert digest(learn("learn_with_torch", nodes=5, backend=backend, workers=2)) == single


def test_with_metrics_and_state_of_the_server(learn, digest):
    def aggregate(contents, weighted_by):
        losses = [content["metrics"]["loss"] for content in contents]
        return MetricRecord({"first": losses[0], "losses": losses})

    def strategy():
        return FedAdam(fraction_train=0.5, fraction_evaluate=0, train_metrics_aggr_fn=aggregate)

    expected = digest(learn(nodes=40, backend="inprocess", strategy=strategy(), rounds=3))
    for workers in (1, 3):
        got = learn(nodes=40, workers=workers, strategy=strategy(), rounds=3)
        assert digest(got) == expected


def test_when_the_strategy_aggregates_by_itself(learn, digest):
    class ByHand(FedAvg):
        def aggregate_train(self, server_round, replies):
            contents = [reply.content for reply in replies]
            views = [content["arrays"].views() for content in contents]
            mean = {k: np.mean([v[k] for v in views], axis=0, dtype=np.float32) for k in views[0]}
            losses = [content["metrics"]["loss"] for content in contents]
            return ArrayRecord(mean), MetricRecord({"losses": losses})

    def strategy():
        return ByHand(fraction_evaluate=0)

    expected = digest(learn(nodes=30, backend="inprocess", strategy=strategy()))
    for workers in (1, 4):
        assert digest(learn(nodes=30, workers=workers, strategy=strategy())) == expected


def test_another_seed_gives_another_model(learn, digest):
    assert digest(learn(seed=1)) != digest(learn(seed=2))


def test_without_a_seed_the_program_s_own_decides(learn, digest):
    random.seed(11)
    first = digest(learn(seed=None))
    random.seed(11)
    assert digest(learn(seed=None, backend="inprocess")) == first
    assert digest(learn(seed=None)) != first


def test_a_seeded_run_leaves_the_program_s_generators_alone(learn):
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    learn(backend="inprocess")
    assert (random.random(), np.random.random()) == expected


def test_nodes_draw_different_numbers_in_every_round(run_main, requests):
    def main(grid):
        losses = []
        for group in ("1", "2"):
            messages = requests(range(6), "train", do="learn")
            for message in messages:
                message.content["arrays"] = ArrayRecord({"w": np.zeros(3, np.float32)})
                message.metadata.group_id = group
            replies = grid.send_and_receive(messages)
            losses += [reply.content["metrics"]["loss"] for reply in replies]
        return losses

    assert len(set(run_main(main))) == 12


def test_kept_views_never_change(learn, told):
    """However often the memory of the model is used again."""
    assert told(learn("keep_views", nodes=8, items=50_000, rounds=6)) == []


def test_one_client_cannot_change_what_another_gets(learn, digest):
    """However many of the others share its process; and its arrays may be of other dtypes."""
    expected = learn("write_copies", backend="inprocess", victims=[0])
    assert expected.failures == []
    for workers in (1, 4):
        assert digest(learn("write_copies", victims=[0], workers=workers)) == digest(expected)


def test_an_outcome_that_is_a_partial_sum_stays_as_it_is(run_main, requests):
    """An aggregator may hand on what it was given, and nobody writes that memory again."""
    from umbel.records import RecordDict
    from umbel.updates import Aggregator

    class Sum(Aggregator):
        def zero(self):
            return None

        def add(self, acc, content):
            array = content["arrays"].views()["w"]
            return array.copy() if acc is None else acc + array

        def merge(self, left, right):
            return left + right

        def finish(self, acc):
            return acc

        def pack(self, acc):
            return RecordDict({"sum": ArrayRecord({"w": acc})})

        def unpack(self, content):
            return content["sum"].views()["w"]

    def main(grid):
        sums = []
        for i in range(5):
            model = ArrayRecord({"w": np.full(30_000, float(i))})
            messages = requests(range(3))
            for message in messages:
                message.content["arrays"] = model
            sums.append(grid.fold(messages, Sum()).value)
        return [(float(total.min()), float(total.max())) for total in sums]

    for workers in (1, 2):
        assert run_main(main, workers=workers) == [(3.0 * i, 3.0 * i) for i in range(5)]
