"""Data sets of the library ``datasets``, from memory, from disk and from the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from umbel.base import MissingDependency, UsageError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A ``datasets.Dataset``; nothing is copied, rows are selected by index."""

    data: Dataset

    def __len__(self) -> int:
        return len(self.data)

    def columns(self) -> list[str]:
        return list(self.data.column_names)

    def column(self, name: str) -> npt.NDArray[Any]:
        # Only this column is read: images and sounds beside it are not decoded.
        arrow = self.data.select_columns([name]).with_format("arrow")[:]
        values: npt.NDArray[Any] = arrow.column(name).to_numpy()
        return values

    def class_names(self, name: str) -> list[str] | None:
        names = getattr(self.data.features[name], "names", None)
        return None if names is None else list(names)

    def take(self, rows: npt.NDArray[np.int64]) -> Dataset:
        return self.data.select(rows)

    def keep(self, names: Sequence[str]) -> Dataset:
        return self.data.select_columns(list(names))

    def shuffled(self, seed: int) -> Dataset:
        return self.data.shuffle(seed=seed)

    def joined(self, others: Sequence[Dataset]) -> Dataset:
        return _library().concatenate_datasets([self.data, *others])


def dataset_dict(splits: Mapping[str, Dataset]) -> DatasetDict:
    """Return splits in the container that ``datasets`` has for them."""
    return _library().DatasetDict(splits)


def load(name: str, subset: str | None, options: Mapping[str, Any]) -> DatasetDict:
    """Return what ``datasets.load_dataset`` returns: a data set of the hub, or local files.

    Raises
    ------
    MissingDependency
        The library is not installed.
    UsageError
        The hub cannot be reached and the data set is not in the cache, or the options make it
        return something else than splits in memory.
    """
    if "split" in options:
        raise UsageError("split is no option", hint="partitioners name the splits: {'train': 10}")
    try:
        loaded = _library().load_dataset(name, name=subset, **options)
    except ConnectionError as error:
        raise UsageError(
            f"the data set {name!r} cannot be loaded: {error}",
            hint="load it once with a network, so that it lies in the cache, or give the data "
            "itself: dataset= also takes a datasets.Dataset, a DatasetDict, a pandas.DataFrame "
            "and a dictionary of arrays",
        ) from error
    if type(loaded).__name__ != "DatasetDict":
        raise UsageError(
            f"load_dataset returned a {type(loaded).__name__}, which has no rows to cut",
            hint="leave streaming out",
        )
    return loaded


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingDependency(
            "loading and joining data sets of the hub needs the library datasets",
            hint='pip install "umbel[datasets]"',
        ) from None
    return datasets
