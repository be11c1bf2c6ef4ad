"""What a partitioner needs of a data set, and which kinds of data sets there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.flwr.datasets.arrays import Arrays
from umbel.flwr.datasets.frames import Frame
from umbel.flwr.datasets.huggingface import HubDataset, dataset_dict

Indices = npt.NDArray[np.int64]

_HINT = "a datasets.Dataset, a pandas.DataFrame, or a dictionary of arrays"
_ONLY_SPLIT = "train"
"""What a data set without named splits is called, as `datasets` calls a file that it loads."""


class Table(Protocol):
    """A data set of rows and named columns."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def columns(self) -> list[str]:
        """Return the names of the columns, in order."""

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return the values of a column that is there."""

    def class_names(self, name: str) -> list[str] | None:
        """Return what the whole numbers of a column stand for, where the data set knows."""

    def take(self, rows: Indices) -> Any:
        """Return these rows, as a data set of the same kind."""

    def keep(self, names: Sequence[str]) -> Any:
        """Return these columns, as a data set of the same kind."""

    def shuffled(self, seed: int) -> Any:
        """Return the rows in random order, as a data set of the same kind."""

    def joined(self, others: Sequence[Any]) -> Any:
        """Return this data set with the rows of others of its kind after its own."""


def table_of(data: Any) -> Table:
    """Return the view of a data set that partitioners work with.

    Raises
    ------
    PartitionError
        It is of no kind that is known, or its columns differ in length.
    """
    if _is_a(data, "datasets", "Dataset"):
        return HubDataset(data)
    if _is_a(data, "pandas", "DataFrame"):
        return Frame(data)
    if isinstance(data, Mapping) and data and not is_splits(data):
        return Arrays.checked(data)
    what = type(data).__name__
    if isinstance(data, Mapping):
        what = f"{what} of the splits {list(data)}" if data else f"{what} that is empty"
    raise PartitionError(f"a data set cannot be a {what}", hint=f"give {_HINT}")


def is_splits(data: Any) -> bool:
    """Return whether it is a mapping with data sets among its values."""
    return isinstance(data, Mapping) and any(
        isinstance(part, Mapping)
        or _is_a(part, "datasets", "Dataset", "IterableDataset")
        or _is_a(part, "pandas", "DataFrame")
        for part in data.values()
    )


def splits_of(data: Any) -> dict[str, Any]:
    """Return the splits of a data set by name: its own, or all of it as ``"train"``."""
    splits = dict(data) if is_splits(data) else {_ONLY_SPLIT: data}
    for split in splits.values():
        table_of(split)
    return splits


def with_splits(splits: Mapping[str, Any]) -> Any:
    """Return splits as ``datasets`` holds them, a ``DatasetDict``, or as a dictionary."""
    if all(isinstance(table_of(split), HubDataset) for split in splits.values()):
        return dataset_dict(splits)
    return dict(splits)


def split_named(splits: Mapping[str, Any], name: str) -> Any:
    """Return one split.

    Raises
    ------
    PartitionError
        There is no such split.
    """
    if name not in splits:
        raise PartitionError(
            f"the data set has no split {name!r}", hint=f"it has {_listed(splits)}"
        )
    return splits[name]


def column_of(data: Any, name: str) -> npt.NDArray[Any]:
    """Return the values of a column.

    Raises
    ------
    PartitionError
        There is no such column.
    """
    table = table_of(data)
    if name not in table.columns():
        raise PartitionError(
            f"the data set has no column {name!r}", hint=f"it has {_listed(table.columns())}"
        )
    return table.column(name)


def joined(parts: Sequence[Any]) -> Any:
    """Return the rows of all parts, one after the other; there is one at least."""
    return table_of(parts[0]).joined(parts[1:]) if len(parts) > 1 else parts[0]


def _is_a(data: Any, library: str, *names: str) -> bool:
    """Return whether it is of a class of a library, which is not imported for that."""
    return any(
        kind.__name__ in names and kind.__module__.partition(".")[0] == library
        for kind in type(data).__mro__
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
