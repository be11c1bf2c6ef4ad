"""How many rows of each class each client has, as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from umbel.flwr.datasets.partitioners import Partitioner
from umbel.flwr.datasets.tables import column_of, table_of
from umbel.partition import label_counts

if TYPE_CHECKING:
    import pandas as pd

INDEX_NAME = "Partition ID"


def compute_counts(
    partitioner: Partitioner,
    column_name: str,
    verbose_names: bool = False,
    max_num_partitions: int | None = None,
) -> pd.DataFrame:
    """Return the number of rows of each class (column) at each client (row).

    Parameters
    ----------
    partitioner : Partitioner
        With a data set; any, also one of your own.
    column_name : str
        The column with the classes. All classes of the whole data set are there, and of a
        ``ClassLabel`` also those without rows.
    verbose_names : bool
        Head the columns with the names that a ``ClassLabel`` has for its numbers.
    max_num_partitions : int, optional
        The first clients only.

    Raises
    ------
    PartitionError
        There is no such column.
    MissingDependency
        pandas is not installed.

    Examples
    --------
    >>> from umbel.flwr.datasets.by_size import IidPartitioner
    >>> partitioner = IidPartitioner(2)
    >>> partitioner.dataset = {"y": ["cat", "dog", "dog"]}
    >>> compute_counts(partitioner, "y").to_numpy().tolist()
    [[1, 1], [0, 1]]
    """
    everything = column_of(partitioner.dataset, column_name)
    names = table_of(partitioner.dataset).class_names(column_name)
    # Classes that no client has are counted too: they stand before the rows of the first one.
    known = everything if names is None else np.arange(len(names))
    num_clients = partitioner.num_partitions
    if max_num_partitions is not None:
        num_clients = min(num_clients, max_num_partitions)
    columns = [column_of(partitioner.load_partition(i), column_name) for i in range(num_clients)]
    ends = len(known) + np.cumsum([len(column) for column in columns])
    rows = [np.arange(end - len(c), end) for end, c in zip(ends, columns, strict=True)]
    frame = label_counts(rows, np.concatenate([known, *columns])).to_pandas()
    frame = frame.rename_axis(index=INDEX_NAME, columns=None)
    if verbose_names and names is not None:
        frame = frame.rename(columns=dict(enumerate(names)))
    return frame


def compute_frequencies(
    partitioner: Partitioner,
    column_name: str,
    verbose_names: bool = False,
    max_num_partitions: int | None = None,
) -> pd.DataFrame:
    """Return the share of each class (column) in each client's rows (row), in [0, 1].

    Rows sum to 1, or to 0 for a client without data. The rest is that of `compute_counts`.
    """
    counts = compute_counts(partitioner, column_name, verbose_names, max_num_partitions)
    return counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
