"""Partitioners that look at the number of rows alone; all take contiguous blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from umbel.base import PartitionError
from umbel.flwr.datasets.partitioners import RowPartitioner
from umbel.flwr.datasets.tables import Indices
from umbel.partition import by_sizes, exponential, id_to_size, iid, linear, square


class IidPartitioner(RowPartitioner):
    """Blocks of equal size; the data set is expected to be in random order.

    Examples
    --------
    >>> partitioner = IidPartitioner(num_partitions=2)
    >>> partitioner.dataset = {"x": [10, 11, 12]}
    >>> partitioner.load_partition(0)
    {'x': array([10, 11])}
    """

    def __init__(self, num_partitions: int) -> None:
        scheme = partial(iid, num_partitions=num_partitions, shuffle=False)
        super().__init__(scheme, None, num_partitions)


class SizePartitioner(RowPartitioner):
    """Blocks of the sizes given; rows that are left over go to nobody."""

    def __init__(self, partition_sizes: Sequence[int]) -> None:
        scheme = partial(by_sizes, partition_sizes=partition_sizes, shuffle=False)
        super().__init__(scheme, None, len(partition_sizes))


class GrowingPartitioner(RowPartitioner):
    """Blocks whose sizes follow from the number of the client."""

    @property
    def partition_id_to_size(self) -> dict[int, int]:
        """The number of rows of each client."""
        return {client: len(rows) for client, rows in enumerate(self._rows)}


class IdToSizeFncPartitioner(GrowingPartitioner):
    """Blocks whose sizes are proportional to a function of 1, 2, ..., ``num_partitions``.

    Parameters
    ----------
    num_partitions : int
        The number of clients.
    partition_id_to_size_fn : callable
        Takes the numbers as one float64 array and returns as many sizes, each above 0.
    """

    def __init__(self, num_partitions: int, partition_id_to_size_fn: Callable[[Any], Any]) -> None:
        scheme = partial(_by_function, num_partitions, partition_id_to_size_fn)
        super().__init__(scheme, None, num_partitions)


def _by_function(
    num_partitions: int, size_of: Callable[[Any], Any], num_rows: int
) -> list[Indices]:
    sizes = np.asarray(size_of(np.arange(1, num_partitions + 1, dtype=np.float64)))
    if sizes.shape != (num_partitions,):
        raise PartitionError(
            f"partition_id_to_size_fn returned shape {sizes.shape} for {num_partitions} clients",
            hint="it is given one array of numbers from 1, and returns an array of that length",
        )
    return id_to_size(num_rows, num_partitions, sizes.__getitem__, shuffle=False)


class LinearPartitioner(GrowingPartitioner):
    """Blocks whose sizes are proportional to 1, 2, 3, ..."""

    def __init__(self, num_partitions: int) -> None:
        scheme = partial(linear, num_partitions=num_partitions, shuffle=False)
        super().__init__(scheme, None, num_partitions)


class SquarePartitioner(GrowingPartitioner):
    """Blocks whose sizes are proportional to 1, 4, 9, ..."""

    def __init__(self, num_partitions: int) -> None:
        scheme = partial(square, num_partitions=num_partitions, shuffle=False)
        super().__init__(scheme, None, num_partitions)


class ExponentialPartitioner(GrowingPartitioner):
    """Blocks whose sizes are proportional to e, e^2, e^3, ..."""

    def __init__(self, num_partitions: int) -> None:
        scheme = partial(exponential, num_partitions=num_partitions, shuffle=False)
        super().__init__(scheme, None, num_partitions)
