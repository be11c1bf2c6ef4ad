"""Labels of any kind as whole numbers from zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition.gathering import Indices


@dataclass(frozen=True, slots=True)
class Classes:
    """The distinct labels in rising order, and which of them each sample has."""

    values: npt.NDArray[Any]
    codes: Indices

    def sizes(self) -> Indices:
        """Return the number of samples of each class."""
        return np.bincount(self.codes, minlength=len(self.values)).astype(np.int64, copy=False)


def classify(labels: npt.ArrayLike, name: str = "labels") -> Classes:
    """Return the classes of ``labels``: numbers, strings, or anything that can be sorted.

    Raises
    ------
    PartitionError
        ``labels`` is no array of one dimension, is empty, or holds a missing value or values
        that cannot be sorted.
    """
    try:
        array = np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise PartitionError(f"{name} cannot be made an array: {error}") from None
    if array.ndim != 1:
        raise PartitionError(
            f"{name} must have one dimension, got shape {array.shape}",
            hint="one label a sample: for one-hot rows use labels.argmax(axis=1)",
        )
    if array.size == 0:
        raise PartitionError(f"{name} are empty")
    try:
        missing = _missing(array)
        if missing.any():
            raise PartitionError(
                f"{name} have {missing.sum()} missing values (NaN or None)",
                hint="drop those samples or give them a class of their own",
                first_index=int(missing.argmax()),
            )
        values, codes = np.unique(array, return_inverse=True)
    except TypeError as error:
        raise PartitionError(f"{name} cannot be sorted: {error}", hint="use one type") from None
    return Classes(values, codes.astype(np.int64, copy=False))


def _missing(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if array.dtype.kind in "fcmM":
        differs: npt.NDArray[np.bool_] = array != array  # only NaN and NaT differ from themselves
        return differs
    if array.dtype.kind == "O":
        return np.array([value is None or bool(value != value) for value in array])
    return np.zeros(len(array), dtype=np.bool_)
