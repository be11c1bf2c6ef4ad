"""``FederatedDataset``: which data, which splits, which clients."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

from umbel.base import PartitionError, UsageError
from umbel.flwr.datasets import FederatedDataset
from umbel.flwr.datasets.partitioner import IidPartitioner, NaturalIdPartitioner
from umbel.flwr.datasets.preprocessor import Divider, Merger


def splits(kind: Any) -> Any:
    made = {"train": kind({"i": np.arange(10)}), "test": kind({"i": np.arange(10, 14)})}
    return datasets.DatasetDict(made) if isinstance(made["train"], datasets.Dataset) else made


def test_splits_are_cut_by_their_own_partitioners(kind: Any, values: Any) -> None:
    fds = FederatedDataset(
        dataset=splits(kind), partitioners={"train": 5, "test": IidPartitioner(2)}, shuffle=False
    )
    assert values(fds.load_partition(1, "train"), "i") == [2, 3]
    assert values(fds.load_partition(np.int64(1), split="test"), "i") == [12, 13]
    assert values(fds.load_split("test"), "i") == [10, 11, 12, 13]
    assert list(fds.partitioners) == ["train", "test"]
    assert fds.partitioners["train"].is_dataset_assigned()


def test_data_without_splits_is_the_split_train(kind: Any, columns: Any, values: Any) -> None:
    fds = FederatedDataset(dataset=kind(columns), partitioners={"train": 6}, seed=3)
    parts = [values(fds.load_partition(client), "i") for client in range(6)]
    assert sorted(i for part in parts for i in part) == list(range(120))
    assert parts[0] != sorted(parts[0])
    assert [i for part in parts for i in part] == values(fds.load_split("train"), "i")
    again = FederatedDataset(dataset=kind(columns), partitioners={"train": 6}, seed=3)
    other = FederatedDataset(dataset=kind(columns), partitioners={"train": 6}, seed=4)
    assert values(again.load_partition(0), "i") == parts[0]
    assert values(other.load_partition(0), "i") != parts[0]


def test_rows_of_a_dataset_are_shuffled_as_the_library_does() -> None:
    data = datasets.Dataset.from_dict({"i": range(50)})
    fds = FederatedDataset(dataset=data, partitioners={"train": 2})
    assert list(fds.load_split("train")["i"]) == list(data.shuffle(seed=42)["i"])


def test_an_order_drawn_without_a_seed_is_one_order() -> None:
    fds = FederatedDataset(dataset={"i": range(30)}, partitioners={"train": 3}, seed=None)
    found = np.concatenate([fds.load_partition(client)["i"] for client in range(3)])
    assert sorted(found) == list(range(30))


@pytest.mark.parametrize(
    ("preprocessor", "wanted"),
    [
        (Divider({"a": 0.5, "b": 0.5}, divide_split="train"), [0, 1, 2, 3, 4]),
        ({"a": ("test", "train")}, [10, 11, 12, 13, *range(10)]),
        (Merger({"a": ("test",)}), [10, 11, 12, 13]),
        (lambda given: {"a": given["test"]}, [10, 11, 12, 13]),
    ],
)
def test_splits_are_made_before_they_are_cut(
    preprocessor: Any, wanted: list[int], kind: Any, values: Any
) -> None:
    fds = FederatedDataset(
        dataset=splits(kind), preprocessor=preprocessor, partitioners={"a": 2}, shuffle=False
    )
    assert values(fds.load_split("a"), "i") == wanted
    half = (len(wanted) + 1) // 2
    assert values(fds.load_partition(0), "i") == wanted[:half]


def test_a_preprocessor_gets_what_the_library_has_for_splits() -> None:
    seen = []

    def look(given: Any) -> Any:
        seen.append(given)
        return given.filter(lambda row: row["i"] % 2 == 0)

    fds = FederatedDataset(
        dataset=splits(datasets.Dataset.from_dict),
        preprocessor=look,
        partitioners={"train": 2},
        shuffle=False,
    )
    assert list(fds.load_partition(0)["i"]) == [0, 2, 4]
    assert isinstance(seen[0], datasets.DatasetDict)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("options", "ask", "text"),
    [
        ({}, (0, "validation"), "no split 'validation'. Hint: it has 'train', 'test'"),
        ({}, (0, "test"), "'test' has no partitioner"),
        ({}, (3,), "no partition 3"),
        ({"partitioners": {"train": 2, "test": 2}}, (0,), r"of which split\? .*train.*test"),
        ({"partitioners": {}}, (0,), "of which split"),
        ({"partitioners": {"valid": 2}}, (0,), "no split 'valid'"),
        ({"partitioners": {"train": 11}}, (0,), "only 10 samples"),
        ({"partitioners": {"train": NaturalIdPartitioner("who")}}, (0,), "no column 'who'"),
    ],
)
def test_what_is_not_there_is_told(options: dict[str, Any], ask: Any, text: str, kind: Any) -> None:
    fds = FederatedDataset(**{"dataset": splits(kind), "partitioners": {"train": 3}, **options})
    with pytest.raises(PartitionError, match=text):
        fds.load_partition(*ask)
    with pytest.raises(PartitionError, match="no split 'all'"):
        fds.load_split("all")


def test_partitioners_of_splits_that_are_not_there_are_told() -> None:
    fds = FederatedDataset(dataset={"i": [1, 2]}, partitioners={"test": 2})
    with pytest.raises(PartitionError, match="no split 'test'"):
        _ = fds.partitioners


SHARED = IidPartitioner(2)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"partitioners": {"train": "ten"}}, PartitionError, "of 'train' is a str"),
        ({"partitioners": {"train": True}}, PartitionError, "of 'train' is a bool"),
        ({"partitioners": {"a": SHARED, "b": SHARED}}, PartitionError, "two splits"),
        ({"subset": "en", "data_dir": "x"}, UsageError, "subset, data_dir: a dict needs no"),
    ],
)
def test_wrong_arguments_are_told(options: dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        FederatedDataset(**{"dataset": {"i": [1, 2]}, "partitioners": {"train": 2}, **options})


@pytest.mark.slow
def test_files_are_loaded_by_the_library(tmp_path: Any) -> None:
    pd.DataFrame({"i": range(12), "y": list("abc") * 4}).to_csv(tmp_path / "a.csv", index=False)
    options = {"data_files": str(tmp_path / "a.csv"), "cache_dir": str(tmp_path / "cache")}
    fds = FederatedDataset(dataset="csv", partitioners={"train": 3}, **options)
    found = [list(fds.load_partition(client)["i"]) for client in range(3)]
    # What flwr-datasets 0.6.1 gives out for this file and seed.
    assert found == [[0, 7, 6, 9], [11, 3, 5, 2], [4, 10, 1, 8]]
    stream = FederatedDataset(dataset="csv", partitioners={"train": 3}, streaming=True, **options)
    with pytest.raises(UsageError, match=r"returned a IterableDatasetDict.*leave streaming out"):
        stream.load_partition(0)


def test_the_hub_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    fds = FederatedDataset(dataset="nobody/nothing", partitioners={"train": 3})
    with pytest.raises(UsageError, match=r"'nobody/nothing' cannot be loaded.*a dictionary of arr"):
        fds.load_partition(0)


def test_a_split_is_named_by_its_partitioner_alone() -> None:
    fds = FederatedDataset(dataset="csv", partitioners={"train": 3}, split="train")
    with pytest.raises(UsageError, match="split is no option"):
        fds.load_partition(0)
