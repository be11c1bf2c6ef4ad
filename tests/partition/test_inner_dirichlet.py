import numpy as np
import pytest

from umbel.base import PartitionError
from umbel.partition import inner_dirichlet, label_counts

LABELS = np.arange(1000) % 10


def test_sizes_are_those_given():
    sizes = [100, 1, 250]
    assert label_counts(inner_dirichlet(LABELS, sizes, 0.5), LABELS).sizes.tolist() == sizes


def test_small_alpha_is_more_uneven():
    skews = [
        label_counts(inner_dirichlet(LABELS, [50] * 10, alpha), LABELS)
        .heterogeneity()
        .total_variation
        for alpha in (0.1, 1.0, 1000.0)
    ]
    assert skews[0] > skews[1] > skews[2]


def test_an_alpha_for_each_class():
    counts = label_counts(inner_dirichlet(LABELS, [60], [1e6] + [1e-3] * 9), LABELS).counts
    assert counts[0, 0] == 60


def test_a_class_that_runs_out_is_shared_by_all():
    # Everybody wants the ten samples of class 1: the first client must not get them all.
    labels = np.array([0] * 90 + [1] * 10)
    parts = inner_dirichlet(labels, [25] * 4, [1e-3, 1e6])
    counts = label_counts(parts, labels).counts
    assert counts[:, 1].sum() == 10
    assert counts[:, 1].max() < 10


@pytest.mark.parametrize("alpha", [0, -1.0, np.nan, np.inf, "much", [1.0, 2.0]])
def test_bad_alpha(alpha):
    with pytest.raises(PartitionError, match="alpha must be"):
        inner_dirichlet(LABELS, [10], alpha)


def test_more_than_there_is():
    with pytest.raises(PartitionError, match="only 1000 samples"):
        inner_dirichlet(LABELS, [600, 401], 1.0)
