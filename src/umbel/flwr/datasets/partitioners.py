"""What all partitioners are: a data set assigned once, and the part of each client."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, SupportsIndex

from umbel.base import PartitionError
from umbel.flwr.datasets.tables import Indices, column_of, table_of


class Partitioner(ABC):
    """Cuts a data set into clients; subclass it for a scheme of your own.

    Examples
    --------
    >>> class Halves(Partitioner):
    ...     num_partitions = 2
    ...
    ...     def load_partition(self, partition_id):
    ...         return {name: values[partition_id::2] for name, values in self.dataset.items()}
    >>> halves = Halves()
    >>> halves.dataset = {"x": [1, 2, 3]}
    >>> halves.load_partition(1)
    {'x': [2]}
    """

    _dataset: Any = None

    @property
    def dataset(self) -> Any:
        """The data set: a ``datasets.Dataset``, a ``pandas.DataFrame`` or a dictionary of arrays.

        Raises
        ------
        PartitionError
            None is assigned yet, or one is assigned for a second time.
        """
        if self._dataset is None:
            raise PartitionError(
                f"{type(self).__name__} has no data set yet", hint="set partitioner.dataset first"
            )
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: Any) -> None:
        if self._dataset is not None:
            raise PartitionError(
                f"{type(self).__name__} has a data set already",
                hint="make another partitioner for another data set or split",
            )
        table_of(dataset)
        self._dataset = dataset

    def is_dataset_assigned(self) -> bool:
        """Return whether there is a data set."""
        return self._dataset is not None

    @abstractmethod
    def load_partition(self, partition_id: int) -> Any:
        """Return the data of one client, of the kind of the data set.

        Raises
        ------
        PartitionError
            There is no such client, or the data set cannot be cut as asked for.
        """

    @property
    @abstractmethod
    def num_partitions(self) -> int:
        """The number of clients."""


class RowPartitioner(Partitioner):
    """Gives rows to clients by a scheme of ``umbel.partition``.

    Parameters
    ----------
    scheme : callable
        Takes the values of ``column``, or the number of rows, and returns the rows of each client.
    column : str, optional
        The column that the scheme looks at.
    num_partitions : int, optional
        The number of clients, where it is known without the data.
    """

    def __init__(
        self,
        scheme: Callable[[Any], list[Indices]],
        column: str | None = None,
        num_partitions: int | None = None,
    ) -> None:
        self._scheme = scheme
        self._column = column
        self._num_partitions = num_partitions

    @cached_property
    def _rows(self) -> list[Indices]:
        if self._column is None:
            return self._scheme(len(table_of(self.dataset)))
        return self._scheme(column_of(self.dataset, self._column))

    def load_partition(self, partition_id: int) -> Any:
        """Return the rows of one client, as a data set of the same kind."""
        rows = self._rows[checked_id(partition_id, len(self._rows))]
        return table_of(self.dataset).take(rows)

    @property
    def num_partitions(self) -> int:
        """The number of clients."""
        return len(self._rows) if self._num_partitions is None else self._num_partitions

    @property
    def partition_id_to_indices(self) -> dict[int, list[int]]:
        """The rows of each client."""
        return {client: rows.tolist() for client, rows in enumerate(self._rows)}


def checked_id(partition_id: SupportsIndex, num_partitions: int) -> int:
    """Return the id as an int, or raise ``PartitionError`` when no client has it."""
    try:
        number = operator.index(partition_id)
    except TypeError:
        raise PartitionError(f"partition_id must be a whole number, got {partition_id!r}") from None
    if not 0 <= number < num_partitions:
        raise PartitionError(
            f"there is no partition {number}", hint=f"ids go from 0 to {num_partitions - 1}"
        )
    return number
