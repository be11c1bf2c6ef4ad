"""Partitioners that give clients columns: vertical federated learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

from umbel.base import Seeds
from umbel.flwr.datasets.partitioners import Partitioner, checked_id
from umbel.flwr.datasets.tables import Indices, table_of
from umbel.partition import vertical_even, vertical_sizes

Names = str | Sequence[str] | None
"""Names of columns: several, one, or none."""


class ColumnPartitioner(Partitioner):
    """Gives columns to clients; ``scheme`` takes their names and returns places among them."""

    def __init__(self, scheme: Callable[[list[str]], list[Indices]]) -> None:
        self._scheme = scheme

    @cached_property
    def _columns(self) -> list[list[str]]:
        names = table_of(self.dataset).columns()
        return [[names[place] for place in places] for places in self._scheme(names)]

    def load_partition(self, partition_id: int) -> Any:
        """Return all rows with the columns of one client, as a data set of the same kind."""
        columns = self._columns[checked_id(partition_id, len(self._columns))]
        return table_of(self.dataset).keep(columns)

    @property
    def num_partitions(self) -> int:
        """The number of clients; the modes ``create_as_...`` make one more than was asked for."""
        return len(self._columns)


class VerticalEvenPartitioner(ColumnPartitioner):
    """As many columns for each client, to within one: ``umbel.partition.vertical_even``.

    Examples
    --------
    >>> partitioner = VerticalEvenPartitioner(2, active_party_columns="y", shuffle=False)
    >>> partitioner.dataset = {"a": [1], "b": [2], "y": [0]}
    >>> [list(partitioner.load_partition(client)) for client in range(2)]
    [['a'], ['b', 'y']]
    """

    def __init__(
        self,
        num_partitions: int,
        active_party_columns: Names = None,
        active_party_columns_mode: str | int = "add_to_last",
        drop_columns: Names = None,
        shared_columns: Names = None,
        shuffle: bool = True,
        seed: int | None = 42,
    ) -> None:
        super().__init__(
            partial(
                vertical_even,
                num_partitions=num_partitions,
                active_party_columns=_listed(active_party_columns),
                active_party_columns_mode=active_party_columns_mode,
                drop_columns=_listed(drop_columns),
                shared_columns=_listed(shared_columns),
                shuffle=shuffle,
                seed=Seeds(seed).seed,
            )
        )


class VerticalSizePartitioner(ColumnPartitioner):
    """As many columns as you say: ``umbel.partition.vertical_sizes``."""

    def __init__(
        self,
        partition_sizes: Sequence[int] | Sequence[float],
        active_party_columns: Names = None,
        active_party_columns_mode: str | int = "add_to_last",
        drop_columns: Names = None,
        shared_columns: Names = None,
        shuffle: bool = True,
        seed: int | None = 42,
    ) -> None:
        super().__init__(
            partial(
                vertical_sizes,
                partition_sizes=list(partition_sizes),
                active_party_columns=_listed(active_party_columns),
                active_party_columns_mode=active_party_columns_mode,
                drop_columns=_listed(drop_columns),
                shared_columns=_listed(shared_columns),
                shuffle=shuffle,
                seed=Seeds(seed).seed,
            )
        )


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())
