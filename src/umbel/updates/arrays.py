"""What the algebra works on: arrays by name, and the number type that their sums are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.base import RejectedReply

NDArray: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, NDArray]
DType: TypeAlias = np.dtype[Any]


@lru_cache(maxsize=512)
def sum_dtype(dtype: DType) -> DType:
    """Return the type in which many arrays of ``dtype`` are summed, in native byte order.

    Half precision and narrower sum in float32, whole numbers and booleans in float64; everything
    else sums in its own type.

    Raises
    ------
    RejectedReply
        Values of this type are not numbers.

    Examples
    --------
    >>> sum_dtype(np.dtype("float16")), sum_dtype(np.dtype("int64")), sum_dtype(np.dtype("float32"))
    (dtype('float32'), dtype('float64'), dtype('float32'))
    """
    if is_whole(dtype):
        return np.dtype(np.float64)
    if dtype.kind in "fc" and dtype.itemsize >= 4:
        return dtype.newbyteorder("=")
    if dtype.kind in "SUMmO" or dtype.type is np.void:
        raise RejectedReply(
            f"an array of dtype {dtype} has no sum",
            hint="send text and dates in a ConfigRecord",
        )
    # NumPy's half and the ml_dtypes (bfloat16, float8 ...), whose kind is "V" or "f".
    return np.dtype(np.float32)


@lru_cache(maxsize=512)
def is_whole(dtype: DType) -> bool:
    """Return whether values of this type are whole numbers or booleans.

    Examples
    --------
    >>> is_whole(np.dtype("uint8")), is_whole(np.dtype("bool")), is_whole(np.dtype("float16"))
    (True, True, False)
    """
    # The four- and two-bit integers of ml_dtypes are of NumPy's kind "V".
    return dtype.kind in "iub" or dtype.name.startswith(("int", "uint"))


@lru_cache(maxsize=512)
def common_dtype(first: DType, second: DType) -> DType:
    """Return the type that holds what both hold; where NumPy knows none, that of their sums.

    Examples
    --------
    >>> common_dtype(np.dtype("float16"), np.dtype("float32"))
    dtype('float32')
    """
    wide = np.promote_types(sum_dtype(first), sum_dtype(second))
    try:
        return np.promote_types(first, second)
    except TypeError:  # two of the ml_dtypes, for example
        return wide


def cast_back(values: NDArray, dtype: DType) -> NDArray:
    """Return ``values`` as ``dtype``; whole numbers are rounded to the nearest, not cut off.

    Examples
    --------
    >>> cast_back(np.array([1.6, 2.5]), np.dtype("int64")).tolist()
    [2, 2]
    """
    if values.dtype == dtype:
        return values
    if not is_whole(dtype):
        return values.astype(dtype)
    rounded = np.asarray(np.rint(values))
    if dtype.kind in "iu" and dtype.itemsize == 8:
        # The largest of these has no neighbour in float64: the next one up would wrap around.
        highest = np.nextafter(float(np.iinfo(dtype).max), 0.0)
        rounded = np.asarray(np.minimum(rounded, highest))
    return rounded.astype(dtype)
