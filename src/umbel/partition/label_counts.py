"""How many samples of each class each client has: a table to print, compare and export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from umbel.base import MissingDependency, PartitionError
from umbel.partition.gathering import Indices
from umbel.partition.heterogeneity import Heterogeneity, heterogeneity
from umbel.partition.labels import classify

if TYPE_CHECKING:
    import pandas as pd

MAX_PRINTED_CLIENTS = 20
MAX_PRINTED_CLASSES = 12


@dataclass(frozen=True, slots=True, eq=False)
class LabelCounts:
    """The number of samples of each client (row) and class (column).

    Attributes
    ----------
    classes : array, shape (num_classes,)
        The distinct labels of the whole data set, in rising order.
    counts : int64 array, shape (num_partitions, num_classes)
        The number of samples.
    """

    classes: npt.NDArray[Any]
    counts: Indices

    @property
    def sizes(self) -> Indices:
        """The number of samples of each client."""
        total: Indices = self.counts.sum(axis=1)
        return total

    def distributions(self) -> npt.NDArray[np.float64]:
        """Return each client's share of each class, float64, rows sum to 1 (0 without samples)."""
        return self.counts / np.maximum(self.sizes, 1)[:, None]

    def heterogeneity(self) -> Heterogeneity:
        """Return how far clients differ in their labels and sizes."""
        return heterogeneity(self.counts)

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame: a row a client, a column a class.

        Raises
        ------
        MissingDependency
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingDependency(
                "a data frame needs pandas", hint='pip install "umbel[plot]"'
            ) from None
        return pd.DataFrame(
            self.counts,
            index=pd.RangeIndex(len(self.counts), name="client"),
            columns=pd.Index(self.classes, name="class"),
        )

    def __str__(self) -> str:
        """Return a text table: a row a client, a column a class, and the heterogeneity."""
        columns = self.classes[:MAX_PRINTED_CLASSES]
        shown = self.counts[:MAX_PRINTED_CLIENTS]
        more_classes = len(self.classes) - len(columns)
        more_clients = len(self.counts) - len(shown)
        rows = [["client", "samples", *map(str, columns)]]
        rows += [self._cells(str(i), row) for i, row in enumerate(shown)]
        if more_clients:
            rows.append(["..."] + [""] * (len(rows[0]) - 1))
        rows.append(self._cells("all", self.counts.sum(axis=0)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if more_classes or more_clients:
            lines.append(f"(not shown: {more_clients} clients, {more_classes} classes)")
        if self.counts.any():
            lines.append(str(self.heterogeneity()))
        return "\n".join(lines)

    def _cells(self, name: str, row: Indices) -> list[str]:
        return [name, str(row.sum()), *map(str, row[:MAX_PRINTED_CLASSES])]


def label_counts(partitions: Sequence[npt.ArrayLike], labels: npt.ArrayLike) -> LabelCounts:
    """Return how many samples of each class each partition has.

    Parameters
    ----------
    partitions : sequence of arrays of int
        The indices of each client's samples, as the schemes return them.
    labels : array-like, shape (num_samples,)
        The labels of the whole data set, which the indices point into.

    Raises
    ------
    PartitionError
        An index is not a whole number in ``[0, num_samples)``, or there is no partition.

    Examples
    --------
    >>> print(label_counts([[0, 1], [2, 3, 4]], ["cat", "dog", "cat", "cat", "cat"]))
    client  samples  cat  dog
         0        2    1    1
         1        3    3    0
       all        5    4    1
    total variation 0.250, Jensen-Shannon 0.300, size imbalance 0.200
    """
    classes = classify(labels)
    if len(partitions) == 0:
        raise PartitionError("there are no partitions to count")
    num_classes = len(classes.values)
    counts = np.empty((len(partitions), num_classes), dtype=np.int64)
    for client, partition in enumerate(partitions):
        indices = _checked_indices(partition, client, len(classes.codes))
        counts[client] = np.bincount(classes.codes[indices], minlength=num_classes)
    return LabelCounts(classes.values, counts)


def _checked_indices(partition: npt.ArrayLike, client: int, total: int) -> Indices:
    indices = np.asarray(partition)
    if indices.size == 0:
        return np.empty(0, dtype=np.int64)  # an empty list would be an array of floats
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise PartitionError(
            f"a partition must be a list of indices, got {indices.dtype} of shape {indices.shape}",
            hint="pass what iid(), dirichlet() ... return",
            client=client,
        )
    if indices.min() < 0 or indices.max() >= total:
        raise PartitionError(
            f"indices reach from {indices.min()} to {indices.max()}, but there are {total} labels",
            hint="pass the labels of the whole data set that was partitioned",
            client=client,
        )
    return indices.astype(np.int64, copy=False)
