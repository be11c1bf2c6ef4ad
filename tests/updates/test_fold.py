"""Whoever folds what, the bits are those of ``umbel.updates.fold``."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import RejectedReply, UsageError
from umbel.records import ArrayRecord, MetricRecord, RecordDict, decode, encode
from umbel.updates import (
    Both,
    Collect,
    PartialSums,
    WeightedMean,
    fold,
)


def replies_of(seed: int, count: int, failing: set[int] = frozenset()):
    rng = np.random.default_rng(seed)
    replies = []
    for index in range(count):
        arrays = {
            "w": rng.standard_normal((3, 2)).astype(np.float32) * 10.0 ** rng.integers(-3, 4),
            "b": rng.standard_normal(()),
            "n": rng.integers(0, 1000, 4),
        }
        metrics = {"num-examples": int(rng.integers(0, 50)) + 1, "loss": float(rng.random())}
        reply = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})
        replies.append(None if index in failing else reply)
    return replies


def bits(outcome) -> list:
    mean, replies = outcome
    arrays = [(key, array.dtype, bytes(array.data)) for key, array in mean.arrays.items()]
    return [arrays, dict(mean.metrics), mean.weight, mean.count, replies]


@settings(max_examples=25)
@given(st.data())
def test_any_workers_in_any_order_give_the_bits_of_a_fold(data):
    cohort = data.draw(st.one_of(st.integers(1, 12), st.integers(50, 70)))
    failing = data.draw(st.sets(st.integers(0, cohort - 1), max_size=min(cohort - 1, 5)))
    replies = replies_of(data.draw(st.integers(0, 99)), cohort, failing)
    aggregator = Both(WeightedMean(), Collect())
    expected = bits(aggregator.finish(fold(aggregator, replies, cohort)))

    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    workers = [PartialSums(cohort, aggregator.merge) for _ in range(3)]
    server = PartialSums(cohort, aggregator.merge)

    def hand_over(worker):
        for span, acc in worker.drain():
            packed = None if acc is None else b"".join(encode(aggregator.pack(acc)))
            server.put(span, None if packed is None else aggregator.unpack(decode(packed)))

    order = rng.permutation(cohort) if rng.random() < 0.5 else np.arange(cohort)
    worker = workers[0]
    for member in order.tolist():
        worker = workers[int(rng.integers(3))] if rng.random() < 0.3 else worker
        start, acc = worker.take_before(member)
        reply = replies[member]
        if reply is not None:
            acc = aggregator.add(aggregator.zero() if acc is None else acc, reply)
        worker.put((start, member + 1), acc)
        if rng.random() < 0.1:
            hand_over(worker)
    for worker in workers:
        hand_over(worker)
    assert bits(aggregator.finish(server.total())) == expected


@pytest.mark.parametrize("cohort", [1, 2, 7, 256, 257, 1000])
def test_the_mean_is_that_of_float64(cohort):
    replies = replies_of(3, cohort)
    mean = WeightedMean().finish(fold(WeightedMean(), replies, cohort))
    weights = np.array([r["metrics"]["num-examples"] for r in replies], float)
    for key, rtol in (("w", 1e-4), ("b", 1e-12)):
        stacked = np.stack([r["arrays"][key].view().astype(float) for r in replies])
        np.testing.assert_allclose(
            mean.arrays[key].view(), np.average(stacked, 0, weights), rtol, atol=1e-2 * (key == "w")
        )
    losses = [r["metrics"]["loss"] for r in replies]
    assert mean.metrics["loss"] == pytest.approx(np.average(losses, weights=weights))
    assert (mean.count, mean.weight) == (cohort, weights.sum())


def test_nothing_to_add_is_none():
    assert fold(WeightedMean(), [], 0) is None
    assert fold(WeightedMean(), [None, None], 2) is None


def test_a_rejected_reply_is_told_with_its_place_and_the_others_count():
    replies = replies_of(0, 3)
    spoiled = replies[1]["arrays"]
    spoiled["w"] = np.full((3, 2), np.nan, np.float32)
    rejected = []
    total = fold(WeightedMean(), replies, 3, lambda place, error: rejected.append((place, error)))
    assert total is not None
    assert total.count == 2
    (place, error), *others = rejected
    assert (place, error.context["key"], others) == (1, "w", [])


def test_a_rejected_reply_is_raised_when_nobody_listens():
    with pytest.raises(RejectedReply):
        fold(WeightedMean(), [RecordDict()], 1)


@pytest.mark.parametrize("contents", [[None], [None] * 3])
def test_contents_must_be_as_many_as_the_cohort(contents):
    with pytest.raises(UsageError, match="for a cohort of 2"):
        fold(WeightedMean(), contents, 2)
