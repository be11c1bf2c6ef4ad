import numpy as np
import pytest

from umbel.base import PartitionError
from umbel.partition import continuous

VALUES = np.linspace(5, 90, 400)[::-1]


def means(strictness):
    return [VALUES[part].mean() for part in continuous(VALUES, 4, strictness)]


def test_strict_partitions_are_ranges():
    parts = continuous(VALUES, 4, 1.0)
    tops, bottoms = ([f(VALUES[p]) for p in parts] for f in (np.max, np.min))
    assert all(top < bottom for top, bottom in zip(tops, bottoms[1:], strict=False))
    assert {len(part) for part in parts} == {100}


def test_strictness_spreads_the_means():
    spreads = [np.ptp(means(strictness)) for strictness in (0.0, 0.5, 1.0)]
    assert spreads[0] < 12 < spreads[1] < spreads[2]


def test_values_that_are_all_equal():
    assert sum(map(len, continuous(np.ones(10), 3, 1.0))) == 10


@pytest.mark.parametrize("strictness", [-0.1, 1.1, np.nan])
def test_bad_strictness(strictness):
    with pytest.raises(PartitionError, match=r"lie in \[0, 1\]"):
        continuous(VALUES, 4, strictness)


@pytest.mark.parametrize("values", [["a"], [1.0, np.nan], np.eye(2)])
def test_bad_values(values):
    with pytest.raises(PartitionError, match="values must be"):
        continuous(values, 1, 0.5)
