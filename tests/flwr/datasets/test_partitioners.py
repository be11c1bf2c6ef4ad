"""Every partitioner, over every kind of data, gives out what its scheme says."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel import partition
from umbel.base import PartitionError
from umbel.flwr.datasets.partitioner import (
    ContinuousPartitioner,
    DirichletPartitioner,
    DistributionPartitioner,
    ExponentialPartitioner,
    GroupedNaturalIdPartitioner,
    IdToSizeFncPartitioner,
    IidPartitioner,
    InnerDirichletPartitioner,
    LinearPartitioner,
    NaturalIdPartitioner,
    Partitioner,
    PathologicalPartitioner,
    ShardPartitioner,
    SizePartitioner,
    SquarePartitioner,
    VerticalEvenPartitioner,
    VerticalSizePartitioner,
)

TABLE = np.ones((6, 2))

# What makes each partitioner, and the rows of its clients.
ROWS = {
    "iid": (lambda: IidPartitioner(7), lambda c: partition.iid(120, 7, shuffle=False)),
    "sizes": (
        lambda: SizePartitioner([3, 50]),
        lambda c: partition.by_sizes(120, [3, 50], shuffle=False),
    ),
    "linear": (lambda: LinearPartitioner(4), lambda c: partition.linear(120, 4, shuffle=False)),
    "square": (lambda: SquarePartitioner(4), lambda c: partition.square(120, 4, shuffle=False)),
    "exponential": (
        lambda: ExponentialPartitioner(4),
        lambda c: partition.exponential(120, 4, shuffle=False),
    ),
    "function": (
        lambda: IdToSizeFncPartitioner(4, lambda ids: ids**3),
        lambda c: partition.id_to_size(120, 4, lambda i: (i + 1.0) ** 3, shuffle=False),
    ),
    "dirichlet": (
        lambda: DirichletPartitioner(4, "label", [0.5, 1, 1, 2], 3, True, False, 7),
        lambda c: partition.dirichlet(
            c["label"],
            4,
            [0.5, 1, 1, 2],
            min_partition_size=3,
            self_balancing=True,
            shuffle=False,
            seed=7,
        ),
    ),
    "inner dirichlet": (
        lambda: InnerDirichletPartitioner(np.array([20, 30]), "label", 0.5, seed=3),
        lambda c: partition.inner_dirichlet(c["label"], [20, 30], 0.5, seed=3),
    ),
    "pathological": (
        lambda: PathologicalPartitioner(6, "label", 2, "deterministic", False, 5),
        lambda c: partition.pathological(
            c["label"], 6, 2, class_assignment_mode="deterministic", shuffle=False, seed=5
        ),
    ),
    "shards": (
        lambda: ShardPartitioner(4, "label", shard_size=7, keep_incomplete_shard=True, seed=2),
        lambda c: partition.shards(c["label"], 4, shard_size=7, keep_incomplete_shard=True, seed=2),
    ),
    "distribution": (
        lambda: DistributionPartitioner(TABLE, 6, 2, "label", 1),
        lambda c: partition.distribution(
            c["label"],
            6,
            TABLE,
            num_unique_labels_per_partition=2,
            preassigned_num_samples_per_label=1,
        ),
    ),
    "natural": (lambda: NaturalIdPartitioner("who"), lambda c: partition.natural_id(c["who"])),
    "grouped": (
        lambda: GroupedNaturalIdPartitioner("who", 4, "allow-bigger", True),
        lambda c: partition.grouped_natural_id(
            c["who"], 4, mode="allow-bigger", sort_unique_ids=True
        ),
    ),
    "continuous": (
        lambda: ContinuousPartitioner(5, "value", 0.8),
        lambda c: partition.continuous(c["value"], 5, 0.8),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_clients_get_the_rows_of_the_scheme(
    name: str, kind: Any, columns: Any, values: Any
) -> None:
    make, scheme = ROWS[name]
    partitioner = make()
    data = kind(columns)
    partitioner.dataset = data
    wanted = [rows.tolist() for rows in scheme(columns)]
    parts = [partitioner.load_partition(i) for i in range(partitioner.num_partitions)]
    assert [values(part, "i") for part in parts] == wanted
    assert partitioner.partition_id_to_indices == dict(enumerate(wanted))
    assert all(type(part) is type(data) for part in parts)
    who = np.array(columns["who"])
    assert values(parts[1], "who") == who[wanted[1]].tolist()


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: VerticalEvenPartitioner(2, shuffle=False), [["i", "label"], ["who", "value"]]),
        (
            lambda: VerticalEvenPartitioner(2, "label", "create_as_first", "i", shuffle=False),
            [["label"], ["who"], ["value"]],
        ),
        (
            lambda: VerticalSizePartitioner([1, 1], ["label"], 0, None, ["i"], shuffle=False),
            [["i", "label", "who"], ["i", "value"]],
        ),
        (
            lambda: VerticalSizePartitioner([0.3, 0.7], shuffle=False),
            [["i"], ["label", "who", "value"]],
        ),
    ],
)
def test_clients_get_the_columns_of_the_scheme(
    make: Any, wanted: list[list[str]], kind: Any, columns: Any, values: Any
) -> None:
    data = kind(columns)
    partitioner = make()
    partitioner.dataset = data
    assert partitioner.num_partitions == len(wanted)
    for client, names in enumerate(wanted):
        part = partitioner.load_partition(client)
        assert type(part) is type(data)
        assert list(getattr(part, "column_names", None) or part) == names
        assert values(part, names[-1]) == values(data, names[-1])


@given(
    labels=st.lists(st.integers(0, 4), min_size=12, max_size=60),
    clients=st.integers(1, 4),
    seed=st.none() | st.integers(0, 2**40),
)
@settings(max_examples=30)
def test_each_sample_goes_to_exactly_one_client(
    labels: list[int], clients: int, seed: int | None
) -> None:
    data = {"i": range(len(labels)), "y": labels}
    for partitioner in (
        IidPartitioner(clients),
        DirichletPartitioner(clients, "y", 0.7, min_partition_size=0, seed=seed),
        ShardPartitioner(clients, "y", 2, seed=seed),
        ContinuousPartitioner(clients, "y", 0.3, seed=seed),
        NaturalIdPartitioner("y"),
        GroupedNaturalIdPartitioner("y", 2),
    ):
        partitioner.dataset = data
        ids = range(partitioner.num_partitions)
        found = [i for client in ids for i in partitioner.load_partition(client)["i"]]
        assert sorted(found) == list(range(len(labels)))


def test_which_ids_a_client_has() -> None:
    data = {"who": ["bo", "al", "bo", "cy", "al", "dd", "aa"]}
    one = NaturalIdPartitioner("who")
    one.dataset = data
    assert one.partition_id_to_natural_id == {0: "aa", 1: "al", 2: "bo", 3: "cy", 4: "dd"}
    several = GroupedNaturalIdPartitioner("who", 2, "drop-reminder")
    several.dataset = data
    assert several.partition_id_to_natural_ids == {0: ["bo", "al"], 1: ["cy", "dd"]}
    assert several.natural_id_to_partition_id == {"bo": 0, "al": 0, "cy": 1, "dd": 1}
    ordered = GroupedNaturalIdPartitioner("who", 2, "allow-bigger", sort_unique_ids=True)
    ordered.dataset = data
    assert ordered.partition_id_to_natural_ids == {0: ["aa", "al", "bo"], 1: ["cy", "dd"]}


def test_sizes_by_a_function_of_the_ids() -> None:
    partitioner = IdToSizeFncPartitioner(3, lambda ids: 2.0 ** (ids - 1))
    partitioner.dataset = {"x": np.arange(70)}
    assert partitioner.partition_id_to_size == {0: 10, 1: 20, 2: 40}
    wrong = IdToSizeFncPartitioner(3, sum)
    wrong.dataset = {"x": np.arange(70)}
    with pytest.raises(PartitionError, match=r"returned shape \(\) for 3 clients"):
        wrong.load_partition(0)


def test_a_partitioner_of_ones_own() -> None:
    class EveryThird(Partitioner):
        @property
        def num_partitions(self) -> int:
            return 3

        def load_partition(self, partition_id: int) -> Any:
            return self.dataset.shard(3, partition_id, contiguous=False)

    partitioner = EveryThird()
    assert not partitioner.is_dataset_assigned()
    partitioner.dataset = datasets.Dataset.from_dict({"i": range(6)})
    assert partitioner.is_dataset_assigned()
    assert list(partitioner.load_partition(1)["i"]) == [1, 4]


def test_rows_are_counted_by_position_and_keep_their_index() -> None:
    partitioner = IidPartitioner(2)
    partitioner.dataset = pd.DataFrame({"x": [1, 2, 3]}, index=[7, 7, 5])
    assert partitioner.load_partition(1).index.tolist() == [5]


@pytest.mark.slow
def test_tensors_stay_tensors() -> None:
    import torch

    partitioner = DirichletPartitioner(2, "y", 5.0, min_partition_size=1)
    partitioner.dataset = {"x": torch.arange(20.0), "y": torch.arange(20) % 2}
    parts = [partitioner.load_partition(client)["x"] for client in range(2)]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(20.0))


def loaded(partitioner: Partitioner, data: Any, client: Any = 0) -> Any:
    partitioner.dataset = data
    return partitioner.load_partition(client)


@pytest.mark.parametrize(
    ("make", "client", "text"),
    [
        (lambda: DirichletPartitioner(2, "color", 1.0), 0, "no column 'color'.*'i', 'label'"),
        (lambda: NaturalIdPartitioner("color"), 0, "no column 'color'"),
        (lambda: VerticalEvenPartitioner(2, "color"), 0, "no column 'color'"),
        (lambda: IidPartitioner(121), 0, "121 partitions.*only 120 samples"),
        (lambda: IidPartitioner(0), 0, "at least 1"),
        (lambda: SizePartitioner([100, 21]), 0, "sum to 121"),
        (lambda: DirichletPartitioner(20, "label", 0.1), 0, "need 200 samples"),
        (lambda: IidPartitioner(3), 3, "no partition 3. Hint: ids go from 0 to 2"),
        (lambda: IidPartitioner(3), -1, "no partition -1"),
        (lambda: VerticalEvenPartitioner(2), 2, "no partition 2"),
        (lambda: IidPartitioner(3), "1", "whole number, got '1'"),
    ],
)
def test_what_cannot_be_done_is_told(
    make: Any, client: Any, text: str, kind: Any, columns: Any
) -> None:
    with pytest.raises(PartitionError, match=text):
        loaded(make(), kind(columns), client)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([1, 2, 3], "cannot be a list"),
        ({}, "empty"),
        ({"train": {"x": [1]}}, r"splits \['train'\]"),
        ({"x": [1, 2], "y": [1]}, "have one length, got {'x': 2, 'y': 1}"),
        (pd.Series([1, 2]), "cannot be a Series"),
        (datasets.DatasetDict(), "cannot be a"),
    ],
)
def test_what_is_no_data_set_is_told(data: Any, text: str) -> None:
    with pytest.raises(PartitionError, match=text):
        IidPartitioner(1).dataset = data


def test_a_data_set_is_assigned_once_and_first() -> None:
    partitioner = IidPartitioner(2)
    assert partitioner.num_partitions == 2
    with pytest.raises(PartitionError, match="IidPartitioner has no data set yet"):
        partitioner.load_partition(0)
    partitioner.dataset = {"x": [1, 2]}
    with pytest.raises(PartitionError, match="has a data set already"):
        partitioner.dataset = {"x": [1, 2]}


def test_missing_labels_are_told(kind: Any) -> None:
    data = kind({"y": ["a", None, "b"]})
    with pytest.raises(PartitionError, match="1 missing values"):
        loaded(NaturalIdPartitioner("y"), data)
