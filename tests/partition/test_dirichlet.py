import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import PartitionError
from umbel.partition import dirichlet, label_counts

LABELS = np.repeat(np.arange(10), 100)


def counts(labels, *args, **kwargs):
    return label_counts(dirichlet(labels, *args, **kwargs), labels).counts


@settings(max_examples=40)
@given(
    alpha=st.floats(0.3, 100),
    parts=st.integers(1, 8),
    least=st.integers(0, 20),
    balancing=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
def test_minimum_size_is_kept(alpha, parts, least, balancing, seed):
    sizes = counts(
        LABELS, parts, alpha, min_partition_size=least, self_balancing=balancing, seed=seed
    ).sum(axis=1)
    assert sizes.sum() == len(LABELS)
    assert sizes.min() >= least


def test_large_alpha_approaches_iid():
    table = counts(LABELS, 10, 1e12)
    assert np.abs(table - 10).max() <= 1


def test_small_alpha_gives_each_class_to_one_client():
    table = counts(LABELS, 10, 1e-5, min_partition_size=0)
    assert np.all(np.count_nonzero(table, axis=0) == 1)


def test_skew_falls_with_alpha():
    skew = [
        label_counts(dirichlet(LABELS, 10, alpha, min_partition_size=0), LABELS)
        .heterogeneity()
        .total_variation
        for alpha in (0.01, 0.1, 1, 10, 1000)
    ]
    assert skew == sorted(skew, reverse=True)


def test_alpha_an_array_gives_more_to_larger_values():
    sizes = counts(LABELS, 3, [100.0, 300.0, 600.0]).sum(axis=1)
    np.testing.assert_allclose(sizes / 1000, [0.1, 0.3, 0.6], atol=0.05)


def test_share_does_not_depend_on_the_place_in_the_list():
    # Classes of one sample are where a rounding that favours one end would show.
    labels = np.arange(2000)
    sizes = counts(labels, 10, 1.0, min_partition_size=0).sum(axis=1)
    # A binomial count of mean 200 has a standard deviation of 13.4.
    assert np.abs(sizes - 200).max() < 5 * 13.4


def test_variance_of_shares_is_that_of_the_distribution():
    parts, alpha = 5, 0.5
    labels = np.repeat(np.arange(400), 100)
    shares = counts(labels, parts, alpha, min_partition_size=0) / 100
    mean = 1 / parts
    variance = mean * (1 - mean) / (parts * alpha + 1)
    assert shares.mean() == pytest.approx(mean)
    assert shares.var() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("alpha", [1e-300, 0.05, 0.5])
def test_self_balancing_gives_nothing_more_to_full_clients(alpha):
    plain = counts(LABELS, 10, alpha, min_partition_size=0)
    table = counts(LABELS, 10, alpha, min_partition_size=0, self_balancing=True)
    before = np.cumsum(table, axis=1) - table
    assert np.all(table[before >= 100] == 0)
    assert table.sum(axis=1).std() < plain.sum(axis=1).std()


def test_shuffle_false_takes_a_class_in_the_order_of_the_data_set():
    parts = dirichlet(np.zeros(100), 3, 5.0, shuffle=False)
    assert np.concatenate(parts).tolist() == list(range(100))


@pytest.mark.parametrize("alpha", [0, -1.0, np.nan, np.inf, [1.0, 0.0], [1e308, 1e308]])
def test_alpha_out_of_range(alpha):
    with pytest.raises(PartitionError, match="alpha must be above 0 and finite"):
        dirichlet(LABELS, 2, alpha)


@pytest.mark.parametrize("alpha", [[1.0], np.ones((2, 2)), []])
def test_alpha_of_another_length(alpha):
    with pytest.raises(PartitionError, match="but there are 2 partitions"):
        dirichlet(LABELS, 2, alpha)


@pytest.mark.parametrize("alpha", ["much", None, [[1], [1, 2]]])
def test_alpha_no_number(alpha):
    with pytest.raises(PartitionError, match="alpha must be"):
        dirichlet(LABELS, 2, alpha)


def test_minimum_size_that_no_draw_can_reach():
    with pytest.raises(PartitionError, match=r"need 1010 samples.*lower min_partition_size to 100"):
        dirichlet(LABELS, 10, 1.0, min_partition_size=101)
    with pytest.raises(PartitionError, match="at least 0, got -1"):
        dirichlet(LABELS, 10, 1.0, min_partition_size=-1)


def test_minimum_size_that_no_draw_did_reach():
    text = "in 100 draws .* min_partition_size is 90.*raise alpha.*self_balancing"
    with pytest.raises(PartitionError, match=text):
        dirichlet(LABELS, 10, 0.1, min_partition_size=90)
    with pytest.raises(PartitionError) as caught:
        dirichlet(LABELS, 10, 1.0, min_partition_size=99, self_balancing=True)
    assert "self_balancing" not in str(caught.value)


def test_the_size_an_error_suggests_works():
    with pytest.raises(PartitionError) as caught:
        dirichlet(LABELS, 10, 0.3, min_partition_size=90)
    suggested = int(caught.value.hint.split("min_partition_size to ")[1].split(",")[0])
    assert suggested > 0
    assert len(dirichlet(LABELS, 10, 0.3, min_partition_size=suggested)) == 10
