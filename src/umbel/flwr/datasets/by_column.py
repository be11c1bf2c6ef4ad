"""Partitioners that look at one column: a label, or a continuous value.

Each is a scheme of ``umbel.partition`` under Flower's name; what the parameters mean is told there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from umbel.base import Seeds
from umbel.flwr.datasets.partitioners import RowPartitioner
from umbel.partition import (
    continuous,
    dirichlet,
    distribution,
    inner_dirichlet,
    pathological,
    shards,
)


class DirichletPartitioner(RowPartitioner):
    """A share of each class, drawn from Dir(alpha): ``umbel.partition.dirichlet``.

    Examples
    --------
    >>> partitioner = DirichletPartitioner(4, partition_by="y", alpha=0.5, min_partition_size=5)
    >>> partitioner.dataset = {"y": ["cat", "dog"] * 50}
    >>> sum(len(partitioner.load_partition(client)["y"]) for client in range(4))
    100
    """

    def __init__(
        self,
        num_partitions: int,
        partition_by: str,
        alpha: float | Sequence[float] | npt.NDArray[np.float64],
        min_partition_size: int = 10,
        self_balancing: bool = False,
        shuffle: bool = True,
        seed: int | None = 42,
    ) -> None:
        scheme = partial(
            dirichlet,
            num_partitions=num_partitions,
            alpha=alpha,
            min_partition_size=min_partition_size,
            self_balancing=self_balancing,
            shuffle=shuffle,
            seed=Seeds(seed).seed,
        )
        super().__init__(scheme, partition_by, num_partitions)


class InnerDirichletPartitioner(RowPartitioner):
    """The sizes given, and a mix of classes for each: ``umbel.partition.inner_dirichlet``."""

    def __init__(
        self,
        partition_sizes: Sequence[int] | npt.NDArray[np.int64],
        partition_by: str,
        alpha: float | Sequence[float] | npt.NDArray[np.float64],
        shuffle: bool = True,
        seed: int | None = 42,
    ) -> None:
        scheme = partial(
            inner_dirichlet,
            partition_sizes=list(partition_sizes),
            alpha=alpha,
            shuffle=shuffle,
            seed=Seeds(seed).seed,
        )
        super().__init__(scheme, partition_by, len(partition_sizes))


class PathologicalPartitioner(RowPartitioner):
    """A fixed number of classes: ``umbel.partition.pathological``."""

    def __init__(
        self,
        num_partitions: int,
        partition_by: str,
        num_classes_per_partition: int,
        class_assignment_mode: Literal["random", "deterministic", "first-deterministic"] = "random",
        shuffle: bool = True,
        seed: int | None = 42,
    ) -> None:
        scheme = partial(
            pathological,
            num_partitions=num_partitions,
            num_classes_per_partition=num_classes_per_partition,
            class_assignment_mode=class_assignment_mode,
            shuffle=shuffle,
            seed=Seeds(seed).seed,
        )
        super().__init__(scheme, partition_by, num_partitions)


class ShardPartitioner(RowPartitioner):
    """Blocks of the data set sorted by class: ``umbel.partition.shards``."""

    def __init__(
        self,
        num_partitions: int,
        partition_by: str,
        num_shards_per_partition: int | None = None,
        shard_size: int | None = None,
        keep_incomplete_shard: bool = False,
        shuffle: bool = True,
        seed: int | None = 42,
    ) -> None:
        scheme = partial(
            shards,
            num_partitions=num_partitions,
            num_shards_per_partition=num_shards_per_partition,
            shard_size=shard_size,
            keep_incomplete_shard=keep_incomplete_shard,
            shuffle=shuffle,
            seed=Seeds(seed).seed,
        )
        super().__init__(scheme, partition_by, num_partitions)


class DistributionPartitioner(RowPartitioner):
    """A fixed number of classes in amounts of a table: ``umbel.partition.distribution``."""

    def __init__(
        self,
        distribution_array: npt.ArrayLike,
        num_partitions: int,
        num_unique_labels_per_partition: int,
        partition_by: str,
        preassigned_num_samples_per_label: int,
        rescale: bool = True,
        shuffle: bool = True,
        seed: int | None = 42,
    ) -> None:
        scheme = partial(
            distribution,
            num_partitions=num_partitions,
            distribution_array=distribution_array,
            num_unique_labels_per_partition=num_unique_labels_per_partition,
            preassigned_num_samples_per_label=preassigned_num_samples_per_label,
            rescale=rescale,
            shuffle=shuffle,
            seed=Seeds(seed).seed,
        )
        super().__init__(scheme, partition_by, num_partitions)


class ContinuousPartitioner(RowPartitioner):
    """A range of a continuous value, sharp or blurred: ``umbel.partition.continuous``."""

    def __init__(
        self,
        num_partitions: int,
        partition_by: str,
        strictness: float,
        shuffle: bool = True,
        seed: int | None = 42,
    ) -> None:
        scheme = partial(
            continuous,
            num_partitions=num_partitions,
            strictness=strictness,
            shuffle=shuffle,
            seed=Seeds(seed).seed,
        )
        super().__init__(scheme, partition_by, num_partitions)
