"""What checks compare: values of any make as bytes, so that equal means equal to the last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from umbel.records import Array, ArrayRecord, RecordDict, decode, encode


def bits(value: Any) -> Any:
    """Return something that is equal for two values only if they are the same to the last bit.

    NaN is equal to itself, 0.0 differs from -0.0, the order of keys does not count.

    Examples
    --------
    >>> bits({"a": np.zeros(1), "b": math.nan}) == bits({"b": math.nan, "a": np.zeros(1)})
    True
    >>> bits(0.0) == bits(-0.0), bits(np.zeros(1)) == bits(np.zeros(1, np.float32))
    (False, False)
    """
    if isinstance(value, np.ndarray | np.generic):
        value = Array.from_numpy_ndarray(np.asarray(value))
    if isinstance(value, Array):
        return value.dtype, value.shape, bytes(value.data)
    if isinstance(value, Mapping):
        return {"mapping": sorted((str(key), bits(item)) for key, item in value.items())}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: bits(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value.hex()
    return value


def carried(content: RecordDict) -> RecordDict:
    """Return records as the other end of a wire gets them: decoded, and read-only."""
    return decode(b"".join(encode(content)))


def all_arrays(value: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return every array in a value, by a path to it.

    Examples
    --------
    >>> sorted(all_arrays({"m": {"w": np.zeros(1)}, "steps": 3, "v": [np.zeros(2)]}))
    ['m/w', 'v/0']
    """
    if isinstance(value, np.ndarray):
        return {"": value}
    if isinstance(value, Array):
        return {"": value.view()}
    if isinstance(value, ArrayRecord):
        return dict(value.views())
    parts: dict[str, Any] = {}
    if isinstance(value, Mapping):
        parts = {str(key): item for key, item in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, list | tuple):
        parts = {str(index): item for index, item in enumerate(value)}
    return {
        f"{name}/{path}".rstrip("/"): array
        for name, part in parts.items()
        for path, array in all_arrays(part).items()
    }


def first_unsound(value: Any) -> str | None:
    """Return the path of an array in ``value`` that holds NaN or infinity, if there is one.

    Examples
    --------
    >>> first_unsound({"w": np.array([np.nan])}), first_unsound({"w": np.ones(1)})
    ('w', None)
    """
    for path, array in all_arrays(value).items():
        if array.dtype.kind in "SUMmO" or array.dtype.names is not None:
            continue
        wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
        if not np.isfinite(wide).all():
            return path
    return None
