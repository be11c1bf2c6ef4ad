"""What the algebra works on: arrays by name, and the number type that their sums are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

NDArray: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, NDArray]


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which many arrays of ``dtype`` are summed.

    Half precision and narrower sum in float32, whole numbers and booleans in float64; everything
    else sums in its own type.

    Examples
    --------
    >>> sum_dtype(np.dtype("float16")), sum_dtype(np.dtype("int64")), sum_dtype(np.dtype("float32"))
    (dtype('float32'), dtype('float64'), dtype('float32'))
    """
    if dtype.kind in "fc" and dtype.itemsize >= 4:
        return dtype
    if dtype.kind in "iub":
        return np.dtype(np.float64)
    # NumPy's half and the ml_dtypes (bfloat16, float8 ...), whose kind is "V" or "f".
    return np.dtype(np.float32)


def cast_back(values: NDArray, dtype: np.dtype[Any]) -> NDArray:
    """Return ``values`` as ``dtype``; whole numbers are rounded to the nearest, not cut off.

    Examples
    --------
    >>> cast_back(np.array([1.6, 2.5]), np.dtype("int64")).tolist()
    [2, 2]
    """
    if values.dtype == dtype:
        return values
    return (np.rint(values) if dtype.kind in "iub" else values).astype(dtype)
