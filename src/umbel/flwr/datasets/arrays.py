"""A dictionary of arrays as a data set: one array a column, one entry of each a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition import iid


@dataclass(frozen=True, slots=True)
class Arrays:
    """Arrays, or tensors that can be indexed by an array of whole numbers."""

    data: Mapping[str, Any]

    @classmethod
    def checked(cls, data: Mapping[str, Any]) -> Arrays:
        """Return the data set, or raise ``PartitionError`` when lengths differ."""
        arrays = {name: _indexable(values) for name, values in data.items()}
        lengths = {name: len(values) if values.shape else 0 for name, values in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise PartitionError(
                f"the arrays of a data set have one length, got {lengths}",
                hint="the first dimension counts the samples",
            )
        return cls(arrays)

    def __len__(self) -> int:
        return len(next(iter(self.data.values())))

    def columns(self) -> list[str]:
        return list(self.data)

    def column(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(self.data[name])

    def class_names(self, name: str) -> list[str] | None:
        return None

    def take(self, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
        return {name: values[rows] for name, values in self.data.items()}

    def keep(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: self.data[name] for name in names}

    def shuffled(self, seed: int) -> dict[str, Any]:
        return self.take(iid(len(self), 1, seed=seed)[0])

    def joined(self, others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            name: np.concatenate([values, *(other[name] for other in others)])
            for name, values in self.data.items()
        }


def _indexable(values: Any) -> Any:
    return values if hasattr(values, "shape") else np.asarray(values)
