"""What keeping replies on disk promises besides the rules: bounds, blocks, and clear errors."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from umbel.base import AggregationError, RejectedReply
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates import (
    BulyanRule,
    CenteredClippingRule,
    GeometricMedianRule,
    KeepReplies,
    KrumRule,
    MedianRule,
    NormBoundRule,
    TrimmedMeanRule,
    fold,
)

RULES = [
    MedianRule(),
    TrimmedMeanRule(0.2),
    KrumRule(1, 3),
    BulyanRule(1),
    GeometricMedianRule(1e-6, 3),
    CenteredClippingRule(10.0, 2),
    NormBoundRule(20.0),
]


def content(arrays, **metrics):
    metrics = {"num-examples": 1, **metrics}
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})


def outcome(aggregator, contents):
    return aggregator.finish(fold(aggregator, contents, len(contents)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_blocks_change_nothing(rule):
    """A model of several arrays and dtypes, read in blocks that end inside arrays."""
    rng = np.random.default_rng(3)
    contents = [
        content(
            {
                "a": rng.standard_normal(40_000).astype(np.float32),
                "n": rng.integers(0, 9, 5),
                "b": rng.standard_normal((3, 10_001)).astype(np.float32),
                "none": np.empty((0, 2), np.float32),
            }
        )
        for _ in range(9)
    ]
    origin = {key: np.zeros_like(v) for key, v in contents[0]["arrays"].views().items()}
    small, large = (
        outcome(KeepReplies(rule, origin=origin, memory_limit_bytes=limit), contents).arrays
        for limit in (1 << 20, 1 << 30)
    )
    assert list(small) == list(large) == ["a", "n", "b", "none"]
    for key, array in small.items():
        assert (array.dtype, array.shape) == (large[key].dtype, large[key].shape)
        # Distances are summed block by block, so that their last bits may differ.
        np.testing.assert_allclose(array.view(), large[key].view(), rtol=1e-5, atol=1e-6)


def test_what_travels_are_names():
    aggregator = KeepReplies(MedianRule())
    acc = aggregator.add(aggregator.zero(), content([np.zeros(1000)], loss=2.0))
    packed = aggregator.pack(acc)
    assert sum(record.count_bytes() for record in packed.array_records.values()) == 0
    total = aggregator.merge(aggregator.zero(), aggregator.unpack(packed))
    mean = aggregator.finish(total)
    assert (mean.metrics["loss"], mean.count) == (2.0, 1)


def test_nan_is_rejected_at_once_even_when_values_are_not_looked_at():
    aggregator = KeepReplies(MedianRule())
    aggregator.looks_at_values = False
    with pytest.raises(RejectedReply, match="NaN"):
        aggregator.add(aggregator.zero(), content([np.array([np.nan])]))


def test_text_is_rejected():
    aggregator = KeepReplies(MedianRule())
    with pytest.raises(RejectedReply, match="has no sum"):
        aggregator.add(aggregator.zero(), content([np.array(["a"])]))


def test_replies_of_other_shapes_are_no_model():
    with pytest.raises(AggregationError, match="different arrays"):
        outcome(KeepReplies(MedianRule()), [content([np.zeros(2)]), content([np.zeros(3)])])


def test_the_folder_goes_with_its_aggregator(tmp_path):
    aggregator = KeepReplies(MedianRule(), spill_dir=tmp_path)
    aggregator.add(aggregator.zero(), content([np.zeros(2)]))
    assert list(tmp_path.glob("*/*"))
    del aggregator
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from umbel.updates import KeepReplies, MedianRule

keep = KeepReplies(MedianRule(), spill_dir=sys.argv[1])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_no_folder_for_long(tmp_path):
    held = KeepReplies(MedianRule(), spill_dir=tmp_path)
    (ours,) = tmp_path.iterdir()
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    newest = KeepReplies(MedianRule(), spill_dir=tmp_path)
    assert ours in tmp_path.iterdir()
    assert len(list(tmp_path.iterdir())) == 2  # the one that is held, and the newest
    del held, newest
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import resource, sys
import numpy as np
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates import KeepReplies, MedianRule, KrumRule

mb, items, count, limit = 1 << 20, 1_000_000, 60, 32 << 20
rule = MedianRule() if sys.argv[1] == "median" else KrumRule(3, 1)
keep = KeepReplies(rule, memory_limit_bytes=limit, spill_dir=sys.argv[2])
rng = np.random.default_rng(1)

def reply(node):
    arrays = ArrayRecord([rng.standard_normal(items, np.float32) + node])
    return RecordDict({"a": arrays, "m": MetricRecord({"num-examples": 1})})

acc = keep.zero()
for node in range(count):
    acc = keep.add(acc, reply(node))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
keep.finish(acc)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print((peak - before) / mb)
"""


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["median", "krum"])
def test_memory_stays_within_the_bound(rule, tmp_path):
    """240 MB of replies under a bound of 32 MiB: twice that holds block, outcome and BLAS."""
    command = [sys.executable, "-c", PROGRAM, rule, str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(out.stdout) < 64
