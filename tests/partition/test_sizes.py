"""iid, by_sizes, linear, square, exponential: schemes that look at sizes alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import PartitionError
from umbel.partition import by_sizes, exponential, id_to_size, iid, linear, square


def lengths(partitions):
    return [len(part) for part in partitions]


@given(total=st.integers(1, 500), parts=st.integers(1, 50))
def test_iid_sizes_differ_by_at_most_one(total, parts):
    parts = min(parts, total)
    sizes = lengths(iid(total, parts))
    assert sum(sizes) == total
    assert max(sizes) - min(sizes) <= 1


def test_iid_of_sorted_labels_has_every_class_everywhere():
    labels = np.repeat(np.arange(5), 200)
    for part in iid(labels, 5):
        assert np.bincount(labels[part], minlength=5).min() > 20


def test_samples_may_be_a_number_or_anything_sized():
    images = np.zeros((12, 4, 4))
    assert lengths(iid(12, 3)) == lengths(iid(images, 3)) == lengths(iid("a" * 12, 3)) == [4] * 3
    assert lengths(iid(np.int64(12), 3)) == [4] * 3


@pytest.mark.parametrize("samples", [0, -1, [], True])
def test_no_samples(samples):
    with pytest.raises(PartitionError, match="samples"):
        iid(samples, 1)


@pytest.mark.parametrize("samples", [2.5, None, np.array(3)])
def test_samples_without_length(samples):
    with pytest.raises(PartitionError, match="must be a number or have a length"):
        iid(samples, 1)


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=20), rest=st.integers(0, 9))
def test_by_sizes_gives_the_sizes(sizes, rest):
    total = sum(sizes) + rest
    partitions = by_sizes(total, sizes)
    assert lengths(partitions) == sizes
    assert len(np.unique(np.concatenate(partitions))) == sum(sizes)
    in_order = by_sizes(total, sizes, shuffle=False)
    assert np.concatenate(in_order).tolist() == list(range(sum(sizes)))


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ([3, -1], r"partition_sizes\[1\] must be at least 1, got -1"),
        ([0], "at least 1, got 0"),
        ([1.5], "whole number, got 1.5"),
        ([], "are empty"),
        ([6, 5], "sum to 11, but there are only 10 samples.*lower them by 1"),
    ],
)
def test_bad_sizes(sizes, text):
    with pytest.raises(PartitionError, match=text):
        by_sizes(10, sizes)


LAWS = {
    "linear": (linear, lambda i: i),
    "square": (square, lambda i: i**2),
    "exponential": (exponential, np.exp),
}


@pytest.mark.parametrize("name", LAWS)
@given(total=st.integers(2000, 5000), parts=st.integers(1, 6))
def test_sizes_follow_the_law_to_within_one_sample(name, total, parts):
    scheme, law = LAWS[name]
    weights = law(np.arange(1, parts + 1, dtype=float))
    sizes = np.array(lengths(scheme(total, parts)))
    assert sizes.sum() == total
    assert np.abs(sizes - total * weights / weights.sum()).max() < 1
    assert np.all(np.diff(sizes) >= 0)


def test_exact_multiples_are_exact():
    assert lengths(linear(55 * 7, 10)) == [7 * i for i in range(1, 11)]
    assert lengths(square(385, 10)) == [i**2 for i in range(1, 11)]


@pytest.mark.parametrize(
    ("scheme", "parts"), [(linear, 50), (square, 50), (exponential, 20), (exponential, 1000)]
)
def test_too_few_samples_for_the_first_client(scheme, parts):
    name = scheme.__name__
    with pytest.raises(PartitionError, match=f"{name} sizes leave partition 0 with .*too few"):
        scheme(1000 if parts == 1000 else 100, parts)


def test_sizes_by_a_function_of_the_id():
    assert lengths(id_to_size(100, 4, lambda i: [4, 3, 2, 1][i])) == [40, 30, 20, 10]
    assert lengths(id_to_size(60, 4, lambda i: i + 1)) == lengths(linear(60, 4))
    with pytest.raises(PartitionError, match="leave partition 1 with"):
        id_to_size(10, 3, lambda i: 1e-9 if i == 1 else 1)


@pytest.mark.parametrize("size", [0, -1.0, np.nan, np.inf])
def test_sizes_out_of_range(size):
    with pytest.raises(PartitionError, match=r"size_of\(1\) is"):
        id_to_size(100, 2, lambda i: size if i else 1)
