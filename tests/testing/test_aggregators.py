"""Umbel's aggregators keep the contract, and each check finds an aggregator that does not."""

import threading

import numpy as np
import pytest

from umbel.base import RejectedReply
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.testing import aggregator_checks
from umbel.updates import Aggregator, Both, Collect, WeightedMean

AGGREGATORS = {
    "mean": WeightedMean(),
    "mean of metrics": WeightedMean(with_arrays=False),
    "mean with NaN": WeightedMean(require_finite=False),
    "collect": Collect(),
    "both": Both(WeightedMean(), Collect()),
}
CHECKS = dict(aggregator_checks())
LARGE = dict(aggregator_checks(shapes={"w": (70_000,), "b": (3,)}))


@pytest.mark.parametrize("aggregator", AGGREGATORS.values(), ids=AGGREGATORS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_small_models(check, aggregator):
    check(aggregator)


@pytest.mark.slow
@pytest.mark.parametrize("check", LARGE.values(), ids=LARGE)
def test_large_models(check):
    check(lambda: AGGREGATORS["both"])


class Sum(Aggregator):
    """A right and simple one: the sum in float64. Each class below breaks one thing in it."""

    def zero(self):
        return {}

    def add(self, acc, content):
        return self.merge(acc, self.read(content))

    def read(self, content):
        if "arrays" not in content:
            raise RejectedReply("no arrays")
        arrays = content["arrays"].views()
        if any(a.dtype.kind == "U" or not np.isfinite(a).all() for a in arrays.values()):
            raise RejectedReply("no numbers")
        return {key: np.array(a, np.float64) for key, a in arrays.items()}

    def merge(self, left, right):
        return {
            key: np.asarray(left.get(key, 0.0) + right[key]) if key in right else left[key]
            for key in {**left, **right}
        }

    def finish(self, acc):
        return acc

    def pack(self, acc):
        return RecordDict({"sum": ArrayRecord(acc)})

    def unpack(self, content):
        return dict(content["sum"].views())


class AddsInAnotherPrecision(Sum):
    def add(self, acc, content):
        arrays = self.read(content)
        return self.merge(acc, {k: a.astype(np.float16) if acc else a for k, a in arrays.items()})


class CountsMerges(Sum):
    def merge(self, left, right):
        merged = super().merge(left, right)
        return {key: value * (1 + 1e-9) for key, value in merged.items()}


class DependsOnMembersBefore(Sum):
    """Multiplies by a factor that grows with calls, wherever these are made."""

    calls = 0

    def add(self, acc, content):
        self.calls += 1
        return super().add(acc, content) | {"calls": np.asarray(float(self.calls))}


class PacksInHalf(Sum):
    def pack(self, acc):
        return RecordDict({"sum": ArrayRecord({k: v.astype(np.float16) for k, v in acc.items()})})


class UnpacksMore(Sum):
    def unpack(self, content):
        return {**super().unpack(content), "more": np.zeros(1)}


class HoldsALock(Sum):
    def __init__(self):
        self.lock = threading.Lock()


class ForgetsItsSettings(Sum):
    scale = 1.0

    def __init__(self):
        self.scale = 2.0

    def __reduce__(self):
        return (type(self).__new__, (type(self),))

    def finish(self, acc):
        return {key: value * self.scale for key, value in acc.items()}


class SumsOnSelf(Sum):
    def zero(self):
        self.total = {}
        return self.total

    def add(self, acc, content):
        self.total = super().add(self.total, content)
        return self.total


class KeepsReferences(Sum):
    def zero(self):
        return []

    def add(self, acc, content):
        self.read(content)
        return [*acc, content["arrays"].lent()]

    def finish(self, acc):
        total = {}
        for arrays in acc:
            total = self.merge_sums(total, {k: np.array(a, np.float64) for k, a in arrays.items()})
        return total

    def merge_sums(self, left, right):
        return super().merge(left, right)

    def merge(self, left, right):
        return [*left, *right]


class WritesToReplies(Sum):
    def read(self, content):
        arrays = content["arrays"].lent()
        for array in arrays.values():
            if array.flags.writeable:
                array *= 2
        return super().read(content)


class GoesByPosition(Sum):
    def read(self, content):
        return {str(i): a for i, a in enumerate(super().read(content).values())}


class ReadsRawBytes(Sum):
    """Takes the bytes for little-endian ones."""

    def read(self, content):
        super().read(content)
        lent = content["arrays"].lent()
        return {k: np.array(a.view(a.dtype.newbyteorder("<")), np.float64) for k, a in lent.items()}


class ChecksAfterwards(Sum):
    def zero(self):
        return {"count": np.zeros(1)}

    def add(self, acc, content):
        acc["count"] += 1
        return super().add(acc, content)


class RaisesKeyErrors(Sum):
    def read(self, content):
        return {key: np.array(a, np.float64) for key, a in content["arrays"].views().items()}


class MissesNaN(Sum):
    def read(self, content):
        arrays = {k: np.array(a, np.float64) for k, a in content["arrays"].views().items()}
        if self.looks_at_values and any(not np.isfinite(a).all() for a in arrays.values()):
            raise RejectedReply("NaN")
        return arrays


class NeverSound(Sum):
    def is_sound(self, acc):
        return False


class DividesByNorm(Sum):
    def finish(self, acc):
        with np.errstate(all="ignore"):
            return {key: value / np.linalg.norm(value) for key, value in acc.items()}


class DividesByWeight(Sum):
    def read(self, content):
        weight = float(content["metrics"]["num-examples"]) if "metrics" in content else 1.0
        arrays = super().read(content)
        return {key: a * weight for key, a in arrays.items()} | {"weight": np.array(weight)}

    def finish(self, acc):
        return {key: float(value.sum()) / float(acc["weight"]) for key, value in acc.items()}


class NeedsReplies(Sum):
    def finish(self, acc):
        return acc["w"]


class NeedsTwo(Sum):
    def zero(self):
        return {"count": np.zeros(())}

    def read(self, content):
        return super().read(content) | {"count": np.ones(())}

    def finish(self, acc):
        with np.errstate(all="ignore"):
            return {k: np.asarray(v / (acc["count"] - 1)) for k, v in acc.items()}


class ZeroIsNotNeutral(Sum):
    def zero(self):
        return {"count": np.ones(())}


BROKEN = {
    AddsInAnotherPrecision: "adding_is_merging-float64",
    CountsMerges: "workers_change_no_bit-float64",
    DependsOnMembersBefore: "workers_change_no_bit-float32",
    PacksInHalf: "sums_travel",
    UnpacksMore: "sums_travel",
    HoldsALock: "settings_travel",
    ForgetsItsSettings: "settings_travel",
    SumsOnSelf: "sums_are_apart",
    KeepsReferences: "replies_are_only_lent",
    WritesToReplies: "replies_are_only_lent",
    GoesByPosition: "layout_changes_no_bit",
    ReadsRawBytes: "layout_changes_no_bit",
    ChecksAfterwards: "a_rejected_reply_leaves_no_trace",
    RaisesKeyErrors: "a_rejected_reply_leaves_no_trace",
    MissesNaN: "spoiled_sums_are_found",
    NeverSound: "spoiled_sums_are_found",
    DividesByNorm: "zero_update",
    DividesByWeight: "zero_weights",
    NeedsTwo: "one_reply",
    NeedsReplies: "no_reply",
    ZeroIsNotNeutral: "no_reply",
}


class RejectsBooleans(Sum):
    def read(self, content):
        if any(a.dtype == bool for a in content["arrays"].views().values()):
            raise RejectedReply("not a number")
        return super().read(content)


BROKEN[RejectsBooleans] = "adding_is_merging-bool"


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_simple_one_is_right(check):
    check(Sum)


@pytest.mark.parametrize(
    ("broken", "name"), BROKEN.items(), ids=lambda v: getattr(v, "__name__", v)
)
def test_a_broken_one_is_found(broken, name):
    with pytest.raises(AssertionError) as caught:
        CHECKS[name](broken)
    assert "." in str(caught.value)  # it says more than that it failed


def test_every_check_has_an_aggregator_that_fails_it():
    kinds = {name.split("-")[0] for name in CHECKS}
    assert kinds == {name.split("-")[0] for name in BROKEN.values()}


def test_replies_of_another_kind():
    class OneNumber(Sum):
        def read(self, content):
            if "delta" not in content:
                raise RejectedReply("no delta")
            return super().read(RecordDict({"arrays": content["delta"]}))

    def reply(arrays, num_examples):
        metrics = MetricRecord({"n": num_examples})
        return RecordDict({"delta": ArrayRecord(dict(arrays)), "m": metrics})

    for _, check in aggregator_checks(reply=reply):
        check(OneNumber)
    with pytest.raises(AssertionError, match="pass `reply=`"):
        CHECKS["sums_travel"](OneNumber)
