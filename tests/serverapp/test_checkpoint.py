"""What a checkpoint holds comes back to the last bit, or not at all."""

import resource

import numpy as np
import pytest

from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.serverapp import Checkpoint, Checkpoints, Failure, Result, RoundTiming
from umbel.testing.bits import bits

MODEL = ArrayRecord({"w": np.linspace(-1, 1, 6).reshape(2, 3), "half": np.ones(3, np.float16)})


def test_a_result_comes_back_to_the_last_bit(tmp_path):
    result = Result(
        MODEL,
        {1: MetricRecord({"a": 0.1, "b": [float("nan"), 1e-300]})},
        {2: MetricRecord({"n": 2**60})},
        failures=[Failure(1, "train", 2**63, "Kind", "\ud800 text", None)],
        timings={1: RoundTiming(0.1, 0.2, 0.3, 0.7), 2: RoundTiming()},
        stopped_early=True,
    )
    checkpoints = Checkpoints(tmp_path)
    state = RecordDict({"of/it": ArrayRecord([np.arange(3)]), "n": MetricRecord({"x": 1})})
    checkpoints.settle(checkpoints.save(Checkpoint(2, 5, True, result, state)))
    again = checkpoints.latest(2)
    assert (again.start, again.server_round, again.finished) == (2, 5, True)
    assert bits(again.result) == bits(result)
    assert again.strategy == state
    assert not again.result.arrays["w"].view().flags.owndata
    assert checkpoints.latest(1) is None
    checkpoints.close()


def test_the_one_before_stays_until_the_new_one_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.settle(checkpoints.save(Checkpoint(1, 1, False, Result())))
    second = checkpoints.save(Checkpoint(1, 2, False, Result()))
    assert checkpoints.latest(1).server_round == 1
    checkpoints.settle(second)
    assert checkpoints.latest(1).server_round == 2
    assert len(list(tmp_path.glob("start-*"))) == 1
    checkpoints.close()


def test_a_full_disk_is_told_with_the_file(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*start-1\.part'"):
            checkpoints.save(Checkpoint(1, 1, False, Result(MODEL)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob("start-*"))
    checkpoints.close()
