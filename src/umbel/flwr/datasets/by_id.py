"""Partitioners that give a client all rows of one writer, user or hospital, or of several."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from umbel.flwr.datasets.partitioners import RowPartitioner
from umbel.flwr.datasets.tables import column_of
from umbel.partition import grouped_natural_id, natural_id


class NaturalIdPartitioner(RowPartitioner):
    """All rows of one id, clients in rising order of id: ``umbel.partition.natural_id``.

    Examples
    --------
    >>> partitioner = NaturalIdPartitioner(partition_by="who")
    >>> partitioner.dataset = {"who": ["bo", "al", "bo"], "x": [1, 2, 3]}
    >>> partitioner.partition_id_to_natural_id
    {0: 'al', 1: 'bo'}
    >>> partitioner.load_partition(1)["x"]
    array([1, 3])
    """

    def __init__(self, partition_by: str) -> None:
        super().__init__(natural_id, partition_by)

    @property
    def partition_id_to_natural_id(self) -> dict[int, Any]:
        """The id of each client's rows."""
        return {client: ids[0] for client, ids in enumerate(_ids_of_clients(self))}


class GroupedNaturalIdPartitioner(RowPartitioner):
    """All rows of ``group_size`` ids: ``umbel.partition.grouped_natural_id``."""

    def __init__(
        self,
        partition_by: str,
        group_size: int,
        mode: Literal["allow-smaller", "allow-bigger", "drop-reminder", "strict"] = "allow-smaller",
        sort_unique_ids: bool = False,
    ) -> None:
        scheme = partial(
            grouped_natural_id, group_size=group_size, mode=mode, sort_unique_ids=sort_unique_ids
        )
        super().__init__(scheme, partition_by)
        self._sorted = sort_unique_ids

    @property
    def partition_id_to_natural_ids(self) -> dict[int, list[Any]]:
        """The ids of each client's rows, in the order in which they were grouped."""
        return {
            client: sorted(ids) if self._sorted else ids
            for client, ids in enumerate(_ids_of_clients(self))
        }

    @property
    def natural_id_to_partition_id(self) -> dict[Any, int]:
        """The client that each id went to; an id that was dropped is not there."""
        pairs = self.partition_id_to_natural_ids.items()
        return {natural: client for client, ids in pairs for natural in ids}


def _ids_of_clients(partitioner: RowPartitioner) -> list[list[Any]]:
    """Return the distinct ids of each client, in the order of their first rows."""
    assert partitioner._column is not None
    ids = column_of(partitioner.dataset, partitioner._column)
    return [list(dict.fromkeys(ids[rows].tolist())) for rows in partitioner._rows]
