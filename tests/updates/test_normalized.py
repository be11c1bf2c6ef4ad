import numpy as np
import pytest

from umbel.base import RejectedReply
from umbel.records import ArrayRecord, MetricRecord, RecordDict, decode, encode
from umbel.updates import Both, NormalizedMean, UniformMean, WeightedMean, fold


def reply(seed, norm, weight=3, **records):
    rng = np.random.default_rng(seed)
    arrays = {"w": rng.standard_normal(5).astype(np.float32), "s": np.array(rng.random())}
    metrics = MetricRecord({"num-examples": weight, "norm": norm, "loss": float(seed)})
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics, **records})


def bits(mean):
    arrays = {key: bytes(array.data) for key, array in mean.arrays.items()}
    return arrays, dict(mean.metrics), mean.stretch, mean.count, mean.weight


REPLIES = [reply(i, norm, weight=0.1 + i) for i, norm in enumerate([3, 3, 7, 1, 3, 2.5])]


def test_adding_is_merging_the_sum_of_one_to_the_last_bit():
    mean = NormalizedMean(WeightedMean(), "norm")
    added, merged = mean.zero(), mean.zero()
    for content in REPLIES:
        added = mean.add(added, content)
        one = mean.add(mean.zero(), content)
        packed = b"".join(bytes(part) for part in encode(mean.pack(one)))
        merged = mean.merge(merged, mean.unpack(decode(packed)))
    assert bits(mean.finish(added)) == bits(mean.finish(merged))


def test_a_rejected_reply_leaves_the_sum_as_it_was():
    mean = NormalizedMean(WeightedMean(), "norm")
    spoiled = RecordDict({**REPLIES[0], "arrays": ArrayRecord({"w": np.array([np.nan])})})
    total = mean.add(mean.zero(), REPLIES[0])
    for norm in (3, 4):
        spoiled["metrics"] = MetricRecord({"num-examples": 1, "norm": norm})
        with pytest.raises(RejectedReply):
            mean.add(total, spoiled)
    expected = mean.finish(mean.add(mean.zero(), REPLIES[0]))
    assert bits(mean.finish(total)) == bits(expected)


@pytest.mark.parametrize("spoiled", ["arrays", "control"])
def test_of_two_folds_neither_adds_what_the_other_rejects(spoiled):
    class First(WeightedMean):
        def _read(self, content):
            return content["arrays"].lent(), content["metrics"]

    both = Both(First(), UniformMean("control"))
    good = reply(1, 1, control=ArrayRecord({"w": np.ones(2)}))
    bad = reply(2, 1, control=ArrayRecord({"w": np.ones(2)}))
    bad[spoiled] = ArrayRecord({key: array.view() * np.nan for key, array in bad[spoiled].items()})
    rejected = []
    total = fold(both, [good, bad], 2, lambda position, error: rejected.append(position))
    mean, control = both.finish(total)
    assert rejected == [1]
    assert mean.count == control.count == 1
    assert mean.arrays["w"] == good["arrays"]["w"]
