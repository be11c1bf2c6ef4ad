"""Dividing and merging: which rows land where."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import PartitionError
from umbel.flwr.datasets.partitioner import IidPartitioner
from umbel.flwr.datasets.preprocessor import Divider, Merger
from umbel.flwr.datasets.utils import concatenate_divisions, divide_dataset


def read(splits: Any) -> dict[str, list[int]]:
    return {name: np.asarray(split["i"][:]).tolist() for name, split in splits.items()}


@pytest.fixture
def two(kind: Any) -> Any:
    made = {"train": kind({"i": np.arange(10)}), "test": kind({"i": np.arange(10, 14)})}
    return datasets.DatasetDict(made) if isinstance(made["train"], datasets.Dataset) else made


REST = [10, 11, 12, 13]


@pytest.mark.parametrize(
    ("divider", "wanted"),
    [
        (
            Divider({"a": 0.55, "b": 0.45}, "train"),
            {"test": REST, "a": [*range(5)], "b": [*range(5, 10)]},
        ),
        (Divider({"a": 3, "b": 4}, "train", True), {"a": [0, 1, 2], "b": [3, 4, 5, 6]}),
        (
            Divider({"train": {"train": 2, "val": 1}}),
            {"test": REST, "train": [0, 1], "val": [2]},
        ),
        (
            Divider({"train": {"a": 0.1}, "test": {"b": 1}}),
            {"a": [0], "b": [10]},
        ),
    ],
)
def test_divider(divider: Divider, wanted: dict[str, list[int]], two: Any) -> None:
    found = divider(two)
    assert read(found) == wanted
    assert list(read(found)) == list(wanted)
    assert isinstance(found, datasets.DatasetDict) == isinstance(two, datasets.DatasetDict)


@pytest.mark.parametrize(
    ("divider", "text"),
    [
        (Divider({"a": 0.5}), r"which of \['train', 'test'\]"),
        (Divider({"a": 0.5}, "dev"), "no split 'dev'"),
        (Divider({"test": 0.5}, "train"), "two splits named 'test'"),
        (Divider({"train": {"a": 1}, "test": {"a": 1}}), "two splits named 'a'"),
        (Divider({"a": 11}, "train"), r"\[11\] is more than there is. Hint: there are 10 rows"),
        (Divider({"a": -1}, "train"), "more than there is"),
        (Divider({"a": 0.6, "b": 0.6}, "train"), "sum to at most 1"),
        (Divider({"a": 0.5, "b": 1}, "train"), "all fractions or all numbers"),
    ],
)
def test_what_a_divider_cannot_do_is_told(divider: Divider, text: str, two: Any) -> None:
    with pytest.raises(PartitionError, match=text):
        divider(two)


def test_one_split_needs_no_name() -> None:
    assert read(Divider({"a": 0.5, "b": 0.5})({"i": [1, 2]})) == {"a": [1], "b": [2]}


def test_merger(two: Any) -> None:
    merged = Merger({"all": ("test", "train"), "again": ("test",)})(two)
    assert read(merged) == {"all": [*REST, *range(10)], "again": REST}
    assert isinstance(merged, datasets.DatasetDict) == isinstance(two, datasets.DatasetDict)


@pytest.mark.parametrize(
    ("config", "text"),
    [({"a": ("dev",)}, "no split 'dev'"), ({"a": ()}, "made of"), ({"a": "train"}, "in a tuple")],
)
def test_what_a_merger_cannot_do_is_told(config: Any, text: str, two: Any) -> None:
    with pytest.raises(PartitionError, match=text):
        Merger(config)(two)


def test_a_data_set_in_pieces(kind: Any, values: Any) -> None:
    data = kind({"i": np.arange(11)})
    parts = divide_dataset(data, (0.75, 0.25))
    assert [values(part, "i") for part in parts] == [[*range(8)], [8, 9, 10]]
    assert type(parts[0]) is type(data)
    assert read(divide_dataset(data, {"a": 0.2, "b": 0.2})) == {"a": [0, 1], "b": [2, 3]}


@given(fractions=st.lists(st.floats(0.01, 1), min_size=1, max_size=6), rows=st.integers(1, 1000))
def test_fractions_that_sum_to_one_use_every_row(fractions: list[float], rows: int) -> None:
    shares = [fraction / sum(fractions) for fraction in fractions]
    parts = divide_dataset({"i": np.arange(rows)}, shares)
    assert np.concatenate([part["i"] for part in parts]).tolist() == list(range(rows))
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part["i"]) - share * rows) < len(shares) + 1


def test_the_same_piece_of_all_clients(kind: Any, values: Any) -> None:
    partitioner = IidPartitioner(3)
    partitioner.dataset = kind({"i": np.arange(10)})
    assert values(concatenate_divisions(partitioner, [0.5, 0.5], 1), "i") == [2, 3, 5, 6, 8, 9]
    named = {"train": 0.8, "test": 0.2}
    assert values(concatenate_divisions(partitioner, named, "test"), "i") == [3, 6, 9]
    with pytest.raises(PartitionError, match="no piece 2"):
        concatenate_divisions(partitioner, [0.5, 0.5], 2)
    with pytest.raises(PartitionError, match="piece 'none' is empty at every client"):
        concatenate_divisions(
            partitioner, {"all": 1.0, "none": 0.0} | {"none": 0.0, "all": 0.5}, "none"
        )
