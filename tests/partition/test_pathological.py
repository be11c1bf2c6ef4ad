import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from umbel.base import PartitionError
from umbel.partition import label_counts, pathological

MODES = ["random", "deterministic", "first-deterministic"]


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60)
@given(
    parts=st.integers(1, 12),
    each=st.integers(1, 6),
    num_classes=st.integers(1, 15),
    seed=st.integers(0, 99),
)
def test_each_client_has_so_many_classes_and_no_class_is_lost(mode, parts, each, num_classes, seed):
    assume(each <= num_classes <= parts * each)
    labels = np.repeat(np.arange(num_classes), 12)
    partitions = pathological(labels, parts, each, class_assignment_mode=mode, seed=seed)
    counts = label_counts(partitions, labels).counts
    assert np.all(np.count_nonzero(counts, axis=1) == each)
    assert counts.sum(axis=0).tolist() == [12] * num_classes
    for of_class in counts.T:
        held = of_class[of_class > 0]
        assert held.max() - held.min() <= 1
    if mode == "first-deterministic":
        clients = np.arange(parts)
        assert np.all(counts[clients, clients % num_classes] > 0)


def classes_of(partitions, labels):
    return [np.unique(labels[part]).tolist() for part in partitions]


def test_deterministic_is_a_window_that_starts_at_the_id():
    labels = np.repeat(np.array(["a", "b", "c", "d"]), 10)
    for seed in (1, 2):
        partitions = pathological(labels, 5, 3, class_assignment_mode="deterministic", seed=seed)
        assert classes_of(partitions, labels) == [
            ["a", "b", "c"], ["b", "c", "d"], ["a", "c", "d"], ["a", "b", "d"], ["a", "b", "c"],
        ]  # fmt: skip


def test_random_classes_are_about_equally_frequent():
    labels = np.repeat(np.arange(10), 500)
    partitions = pathological(labels, 500, 2)
    holders = np.count_nonzero(label_counts(partitions, labels).counts, axis=0)
    # A binomial count of mean 100 has a standard deviation of 8.9.
    assert np.abs(holders - 100).max() < 5 * 8.9


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3, 0), "num_classes_per_partition must be at least 1"),
        ((3, 11), "is 11, but there are only 10 classes"),
        ((3, 2), "no room for all 10 classes.*to 4, raise num_partitions to 5"),
        ((30, 10), "class 0 has 20 samples for the 30 partitions"),
    ],
)
def test_errors(arguments, text):
    labels = np.repeat(np.arange(10), 20)
    with pytest.raises(PartitionError, match=text):
        pathological(labels, *arguments)


def test_unknown_mode():
    with pytest.raises(PartitionError, match=r"unknown class_assignment_mode 'fair'.*random"):
        pathological([0, 1], 2, 1, class_assignment_mode="fair")
