"""What holds for every scheme."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import PartitionError
from umbel.partition import (
    by_sizes,
    continuous,
    dirichlet,
    exponential,
    grouped_natural_id,
    id_to_size,
    iid,
    inner_dirichlet,
    linear,
    natural_id,
    pathological,
    shards,
    square,
)

LABELS = np.arange(200) % 8

# With the arguments given here every scheme uses all samples.
COVERING = {
    "iid": lambda y, **kw: iid(y, 5, **kw),
    "by_sizes": lambda y, **kw: by_sizes(y, [1, len(y) - 4, 3], **kw),
    "linear": lambda y, **kw: linear(y, 4, **kw),
    "square": lambda y, **kw: square(y, 3, **kw),
    "exponential": lambda y, **kw: exponential(y, 3, **kw),
    "dirichlet": lambda y, **kw: dirichlet(y, 5, 0.3, min_partition_size=0, **kw),
    "dirichlet balanced": lambda y, **kw: dirichlet(
        y, 5, 0.1, min_partition_size=0, self_balancing=True, **kw
    ),
    "id_to_size": lambda y, **kw: id_to_size(y, 3, lambda i: 3 - i, **kw),
    "continuous": lambda y, **kw: continuous(np.arange(len(y)), 4, 0.5, **kw),
    "inner_dirichlet": lambda y, **kw: inner_dirichlet(y, [7, 1, len(y) - 8], 0.3, **kw),
    "shards": lambda y, **kw: shards(y, 3, num_shards_per_partition=2, **kw),
    "shards of a size": lambda y, **kw: shards(
        y, 3, shard_size=4, keep_incomplete_shard=True, **kw
    ),
    "pathological": lambda y, **kw: pathological(y, 1, len(np.unique(y)), **kw),
    "natural_id": lambda y: natural_id(y),
    "grouped_natural_id": lambda y: grouped_natural_id(y, 2),
}
RANDOM = sorted(set(COVERING) - {"natural_id", "grouped_natural_id"})

label_arrays = st.one_of(
    st.lists(st.integers(-3, 3), min_size=20, max_size=80),
    st.lists(st.sampled_from(["cat", "dog", "bird"]), min_size=20, max_size=80),
    st.lists(st.floats(0, 1).map(lambda x: round(x, 1)), min_size=20, max_size=80),
)


def assert_partition(partitions, num_samples):
    assert isinstance(partitions, list)
    assert all(part.dtype == np.int64 and part.ndim == 1 for part in partitions)
    assert np.sort(np.concatenate(partitions)).tolist() == list(range(num_samples))


@pytest.mark.parametrize("scheme", COVERING)
@settings(max_examples=15)
@given(labels=label_arrays)
def test_partitions_are_disjoint_and_complete(scheme, labels):
    assert_partition(COVERING[scheme](np.array(labels)), len(labels))


@pytest.mark.parametrize("scheme", RANDOM)
def test_same_seed_same_partitions(scheme):
    first, again = (COVERING[scheme](LABELS, seed=7) for _ in range(2))
    other = COVERING[scheme](LABELS, seed=8)
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    assert [part.tolist() for part in first] != [part.tolist() for part in other]


@pytest.mark.parametrize("scheme", RANDOM)
def test_shuffle_changes_order_but_no_label_count(scheme):
    shuffled = COVERING[scheme](LABELS, seed=3)
    kept = COVERING[scheme](LABELS, seed=3, shuffle=False)
    assert all(np.all(np.diff(part) > 0) for part in kept)
    assert any(np.any(np.diff(part) < 0) for part in shuffled)
    assert [len(part) for part in shuffled] == [len(part) for part in kept]
    if scheme.startswith(("dirichlet", "inner_dirichlet", "pathological")):
        for a, b in zip(shuffled, kept, strict=True):
            assert np.sort(LABELS[a]).tolist() == np.sort(LABELS[b]).tolist()


@pytest.mark.parametrize("scheme", RANDOM)
@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "seven"])
def test_bad_seed(scheme, seed):
    with pytest.raises(PartitionError, match="seed must be a whole number"):
        COVERING[scheme](LABELS, seed=seed)


@pytest.mark.parametrize("scheme", RANDOM)
def test_numpy_integers_are_seeds(scheme):
    plain, numpy = COVERING[scheme](LABELS, seed=5), COVERING[scheme](LABELS, seed=np.int32(5))
    assert [part.tolist() for part in plain] == [part.tolist() for part in numpy]


SIMPLE = {
    "iid": lambda y, n: iid(y, n),
    "linear": lambda y, n: linear(y, n),
    "dirichlet": lambda y, n: dirichlet(y, n, 1.0, min_partition_size=0),
    "shards": lambda y, n: shards(y, n, num_shards_per_partition=1),
    "pathological": lambda y, n: pathological(y, n, 1),
}


@pytest.mark.parametrize("scheme", SIMPLE)
@pytest.mark.parametrize(
    ("num_partitions", "text"),
    [
        (0, "at least 1, got 0"),
        (-2, "at least 1, got -2"),
        (201, "201 partitions were asked for, but there are only 200 samples"),
        (2.0, "must be a whole number, got 2.0"),
        (True, "must be a whole number, got True"),
    ],
)
def test_bad_num_partitions(scheme, num_partitions, text):
    with pytest.raises(PartitionError, match=text):
        SIMPLE[scheme](LABELS, num_partitions)


BY_LABEL = {
    "dirichlet": lambda y: dirichlet(y, 2, 1.0, min_partition_size=0),
    "inner_dirichlet": lambda y: inner_dirichlet(y, [1, 1], 1.0),
    "shards": lambda y: shards(y, 2, num_shards_per_partition=1),
    "pathological": lambda y: pathological(y, 2, 1),
    "natural_id": natural_id,
    "grouped_natural_id": lambda y: grouped_natural_id(y, 1),
}


@pytest.mark.parametrize("scheme", BY_LABEL)
@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], "are empty"),
        (3, r"one dimension, got shape \(\)"),
        (np.eye(3), r"one dimension, got shape \(3, 3\)"),
        ([[1], [2, 3]], "cannot be made an array"),
        ([1.0, np.nan, np.nan], r"2 missing values.*first_index: 1"),
        (["a", None], "1 missing values"),
        (np.array(["a", float("nan")], dtype=object), "1 missing values"),
        (np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"), "1 missing values"),
        (np.array(["a", 1], dtype=object), "cannot be sorted"),
    ],
)
def test_bad_labels(scheme, labels, text):
    with pytest.raises(PartitionError, match=text):
        BY_LABEL[scheme](labels)


@pytest.mark.parametrize("scheme", BY_LABEL)
def test_labels_of_any_kind_are_cut_alike(scheme):
    numbers = np.arange(40) % 2
    expected = [part.tolist() for part in BY_LABEL[scheme](numbers)]
    for labels in (
        np.array(["a", "b"])[numbers],
        np.array(["a", "b"], dtype=object)[numbers].tolist(),
        numbers.astype(bool),
        numbers.astype(np.float32) - 0.5,
        np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]")[numbers],
    ):
        assert [part.tolist() for part in BY_LABEL[scheme](labels)] == expected


def test_pandas_missing_value_is_an_error_of_ours():
    pandas = pytest.importorskip("pandas")
    labels = pandas.Series([1, None, 2], dtype="Int64").astype(object)
    with pytest.raises(PartitionError):
        natural_id(labels)


def test_partitioning_needs_numpy_alone():
    code = (
        "import sys, umbel.partition as p; p.dirichlet([0, 1] * 30, 2, 1.0);"
        "print(sorted({'matplotlib', 'pandas', 'sklearn', 'torch'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
