import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import PartitionError
from umbel.partition import shards

LABELS = np.repeat(np.arange(10), 23)


@settings(max_examples=40)
@given(parts=st.integers(1, 20), each=st.integers(1, 10), seed=st.integers(0, 99))
def test_number_alone_uses_all_samples_evenly(parts, each, seed):
    partitions = shards(LABELS, parts, num_shards_per_partition=each, seed=seed)
    sizes = [len(part) for part in partitions]
    assert sum(sizes) == len(LABELS)
    assert max(sizes) - min(sizes) <= each


@settings(max_examples=40)
@given(parts=st.integers(1, 10), size=st.integers(1, 20), keep=st.booleans())
def test_size_alone_deals_all_full_shards(parts, size, keep):
    partitions = shards(LABELS, parts, shard_size=size, keep_incomplete_shard=keep)
    sizes = np.array([len(part) for part in partitions])
    assert sizes.sum() == (len(LABELS) if keep else len(LABELS) // size * size)
    assert np.sum(sizes % size != 0) <= keep
    numbers_of_shards = np.ceil(sizes / size)
    assert numbers_of_shards.max() - numbers_of_shards.min() <= 1


def test_number_and_size_draw_from_all_shards():
    seen = set()
    for seed in range(40):
        partitions = shards(LABELS, 2, num_shards_per_partition=2, shard_size=23, seed=seed)
        assert [len(part) for part in partitions] == [46, 46]
        seen |= set(LABELS[np.concatenate(partitions)].tolist())
    assert seen == set(range(10))


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_shard_is_a_block_of_the_samples_sorted_by_label(shuffle):
    labels = LABELS[np.random.default_rng(0).permutation(len(LABELS))]
    partitions = shards(labels, 10, shard_size=23, shuffle=shuffle)
    assert sorted(np.unique(labels[part]).tolist() for part in partitions) == [
        [k] for k in range(10)
    ]


def test_number_of_classes_is_bounded_by_the_number_of_shards():
    labels = np.repeat(np.arange(10), 20)
    for part in shards(labels, 10, num_shards_per_partition=2):
        assert len(np.unique(labels[part])) <= 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "neither a number nor a size"),
        ({"num_shards_per_partition": 0}, "num_shards_per_partition must be at least 1"),
        ({"shard_size": 0}, "shard_size must be at least 1"),
        ({"shard_size": 5, "num_shards_per_partition": -1}, "must be at least 1, got -1"),
        ({"num_shards_per_partition": 60}, "230 samples are too few for 240 shards"),
        ({"shard_size": 100}, "230 samples are too few for 4 shards of at least 100"),
        ({"shard_size": 20, "num_shards_per_partition": 3}, "too few for 12 shards of at least 20"),
        (
            {"num_shards_per_partition": 2, "keep_incomplete_shard": True},
            "keep_incomplete_shard has no meaning",
        ),
    ],
)
def test_errors(arguments, text):
    with pytest.raises(PartitionError, match=text):
        shards(LABELS, 4, **arguments)


def test_an_incomplete_shard_counts_as_a_shard():
    partitions = shards(np.zeros(10), 3, shard_size=4, keep_incomplete_shard=True)
    assert sorted(len(part) for part in partitions) == [2, 4, 4]
