import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import PartitionError
from umbel.partition import grouped_natural_id, natural_id

ids = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=60).map(np.array)


@given(ids=ids)
def test_a_client_is_an_id(ids):
    partitions = natural_id(ids)
    assert [set(ids[part]) for part in partitions] == [{name} for name in np.unique(ids)]
    assert sum(len(part) for part in partitions) == len(ids)


@given(ids=ids, size=st.integers(1, 8), in_order=st.booleans())
def test_allow_smaller_has_one_smaller_group_at_the_end(ids, size, in_order):
    partitions = grouped_natural_id(ids, size, sort_unique_ids=in_order)
    groups = [set(ids[part]) for part in partitions]
    assert all(len(group) == size for group in groups[:-1])
    assert 1 <= len(groups[-1]) <= size
    assert sum(len(part) for part in partitions) == len(ids)


@given(ids=ids, size=st.integers(1, 8))
def test_allow_bigger_and_drop_remainder(ids, size):
    num_ids = len(np.unique(ids))
    if num_ids < size:
        for mode in ("allow-bigger", "drop-remainder"):
            with pytest.raises(PartitionError, match="too few for one group"):
                grouped_natural_id(ids, size, mode=mode)
        return
    bigger = grouped_natural_id(ids, size, mode="allow-bigger")
    assert sum(len(part) for part in bigger) == len(ids)
    assert sum(len(set(ids[part])) for part in bigger) == num_ids
    assert all(len(set(ids[part])) >= size for part in bigger)
    dropped = grouped_natural_id(ids, size, mode="drop-remainder")
    assert len(dropped) == len(bigger) == num_ids // size
    assert all(len(set(ids[part])) == size for part in dropped)
    for small, big in zip(dropped, bigger, strict=True):
        assert len(set(ids[small])) <= len(set(ids[big]))


def test_leftover_ids_make_the_first_groups_larger():
    ids = np.arange(11)
    partitions = grouped_natural_id(ids, 4, mode="allow-bigger")
    assert [part.tolist() for part in partitions] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]


def test_order_of_ids():
    ids = ["d", "b", "d", "a", "c"]
    assert [p.tolist() for p in grouped_natural_id(ids, 2)] == [[0, 1, 2], [3, 4]]
    in_order = grouped_natural_id(ids, 2, sort_unique_ids=True)
    assert [p.tolist() for p in in_order] == [[1, 3], [0, 2, 4]]


def test_flowers_spelling_is_taken():
    ids = [1, 2, 3]
    both = [grouped_natural_id(ids, 2, mode=f"drop-{word}") for word in ("remainder", "reminder")]
    assert [part.tolist() for part in both[0]] == [part.tolist() for part in both[1]] == [[0, 1]]


def test_strict():
    assert len(grouped_natural_id(np.arange(6), 3, mode="strict")) == 2
    with pytest.raises(PartitionError, match="7 ids cannot be cut into groups of 3: 1 are left"):
        grouped_natural_id(np.arange(7), 3, mode="strict")


def test_errors():
    with pytest.raises(PartitionError, match="group_size must be at least 1, got 0"):
        grouped_natural_id([1], 0)
    with pytest.raises(PartitionError, match=r"unknown mode 'loose'.*one of allow-smaller"):
        grouped_natural_id([1], 1, mode="loose")
