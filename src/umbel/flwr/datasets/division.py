"""Cutting one data set into consecutive pieces: training and test rows of a client."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from umbel.base import PartitionError
from umbel.flwr.datasets.partitioners import Partitioner
from umbel.flwr.datasets.tables import Indices, joined, table_of, with_splits

Division = Sequence[float] | Mapping[str, float]
"""Fractions of the rows, or numbers of rows, in order; with a name for each piece or without."""


def divide_dataset(dataset: Any, division: Division) -> Any:
    """Return consecutive pieces of a data set.

    Parameters
    ----------
    dataset : Dataset, DataFrame or dict of arrays
        What to cut.
    division : sequence or mapping of str
        Fractions (floats) of the rows that sum to at most 1, rounded down, or numbers of rows.
        Where fractions sum to 1, the last piece has all that rounding left over.

    Returns
    -------
    list, or DatasetDict or dict
        The pieces; by name where ``division`` names them.

    Raises
    ------
    PartitionError
        They ask for more than there is, or mix fractions and numbers.

    Examples
    --------
    >>> divide_dataset({"x": [1, 2, 3, 4, 5]}, [0.8, 0.2])
    [{'x': array([1, 2, 3, 4])}, {'x': array([5])}]
    """
    table = table_of(dataset)
    if isinstance(division, Mapping):
        pieces = blocks(list(division.values()), len(table))
        return with_splits(
            {name: table.take(rows) for name, rows in zip(division, pieces, strict=True)}
        )
    return [table.take(rows) for rows in blocks(division, len(table))]


def concatenate_divisions(
    partitioner: Partitioner, partition_division: Division, division_id: int | str
) -> Any:
    """Return the same piece of all partitions in one data set, such as all clients' test rows.

    Parameters
    ----------
    partitioner : Partitioner
        With a data set.
    partition_division : sequence or mapping of str
        How each partition is divided: see `divide_dataset`.
    division_id : int or str
        The place or the name of the piece.

    Raises
    ------
    PartitionError
        There is no such piece, or it is empty at every client.
    """
    named = isinstance(partition_division, Mapping)
    known = list(partition_division) if named else list(range(len(partition_division)))
    if division_id not in known:
        raise PartitionError(f"there is no piece {division_id!r}", hint=f"one of {known}")
    pieces = [
        divide_dataset(partitioner.load_partition(client), partition_division)[division_id]
        for client in range(partitioner.num_partitions)
    ]
    found = [piece for piece in pieces if len(table_of(piece))]
    if not found:
        raise PartitionError(
            f"piece {division_id!r} is empty at every client", hint="give it a larger fraction"
        )
    return joined(found)


def blocks(amounts: Sequence[Any], num_rows: int) -> list[Indices]:
    """Return the rows of consecutive pieces, given as fractions or as numbers of rows."""
    if amounts and all(isinstance(amount, float) for amount in amounts):
        sizes = _rounded_down(amounts, num_rows)
    else:
        try:
            sizes = [operator.index(amount) for amount in amounts]
        except TypeError:
            raise PartitionError(
                f"amounts are all fractions or all numbers of rows, got {list(amounts)}"
            ) from None
    if any(size < 0 for size in sizes) or sum(sizes) > num_rows:
        raise PartitionError(
            f"{list(amounts)} is more than there is", hint=f"there are {num_rows} rows"
        )
    ends = np.cumsum(sizes, dtype=np.int64)
    pieces = zip(ends, sizes, strict=True)
    return [np.arange(end - size, end, dtype=np.int64) for end, size in pieces]


def _rounded_down(fractions: Sequence[float], num_rows: int) -> list[int]:
    total = math.fsum(fractions)
    if not (all(fraction >= 0 for fraction in fractions) and total <= 1 + 1e-9):
        raise PartitionError(f"fractions lie in [0, 1] and sum to at most 1, got {list(fractions)}")
    sizes = [int(fraction * num_rows) for fraction in fractions]
    if total >= 1 - 1e-9:
        sizes[-1] = num_rows - sum(sizes[:-1])
    return sizes
