"""Names of dtypes: as text, as NumPy objects, and as safetensors codes."""

from __future__ import annotations

import json
import re
import sys
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from umbel.base import RecordError

DType = np.dtype[Any]

NATIVE_IS_LITTLE = sys.byteorder == "little"

CODE_OF_NAME = {
    "bool": "BOOL",
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}
"""What the safetensors format calls the dtypes that it knows."""

ITEMSIZE_OF_CODE = {
    code: int(re.findall("[0-9]+", code)[0]) // 8 if code != "BOOL" else 1
    for code in CODE_OF_NAME.values()
}

NAME_OF_CODE = {code: name for name, code in CODE_OF_NAME.items()}

_BY_NAME = {
    name: np.dtype(name) for name in sorted({np.dtype(k).name for k in np.sctypeDict.values()})
}
# All that NumPy reads as a dtype would be too much for text from a stranger.
_WITH_UNIT_OR_SIZE = re.compile(r"(datetime64|timedelta64)\[[0-9]*[A-Za-z]+\]|[<|][USV][0-9]{1,9}")


class WireType(NamedTuple):
    """How a dtype travels in a safetensors file."""

    code: str
    true_name: str | None
    """The dtype's name when the format has none for it and its bytes travel as ``U8``."""
    itemsize: int
    alignment: int


@lru_cache(maxsize=512)
def name_of(dtype: DType) -> str:
    """Return the text that names a dtype whatever its byte order; ``dtype_of`` reads it back."""
    if dtype.hasobject:
        raise RecordError(
            f"an array of dtype {dtype} holds Python objects, not numbers",
            hint="convert it first, for example array.astype('float32') or array.astype(str)",
        )
    if dtype.subdtype is None and not issubclass(dtype.type, np.flexible):
        return dtype.name
    little = dtype.newbyteorder("<")
    return little.str if little.names is None else json.dumps(_layout(little))


def _layout(dtype: DType) -> Any:
    """Return a structured dtype's fields with their exact offsets, as JSON can hold them."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_layout(base), list(shape)]
    if dtype.names is None or dtype.fields is None:
        return name_of(dtype)
    fields = [dtype.fields[name] for name in dtype.names]
    return {
        "names": list(dtype.names),
        "formats": [_layout(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }


@lru_cache(maxsize=512)
def dtype_of(name: str) -> DType:
    """Return the little-endian dtype of this name.

    Raises
    ------
    RecordError
        If no such dtype is known here, or it would hold Python objects.
    """
    try:
        dtype = _from_layout(json.loads(name)) if name.startswith("{") else _from_name(name)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise RecordError(
            f"unknown dtype {name[:100]!r}",
            hint="use a NumPy name such as 'float32', or 'bfloat16' or 'float8_e4m3fn'",
        ) from error
    if dtype.hasobject:
        raise RecordError(f"dtype {name[:100]!r} would hold Python objects, not numbers")
    return dtype


def _from_name(name: str) -> DType:
    if name in _BY_NAME:
        return _BY_NAME[name].newbyteorder("<")
    if _WITH_UNIT_OR_SIZE.fullmatch(name):
        return np.dtype(name).newbyteorder("<")
    return _from_ml_dtypes(name)


def _from_layout(layout: Any) -> DType:
    if isinstance(layout, str):
        return _from_name(layout)
    if isinstance(layout, list):
        base, shape = layout
        return np.dtype((_from_layout(base), tuple(shape)))
    formats = [_from_layout(field) for field in layout["formats"]]
    dtype: DType = np.dtype({**layout, "formats": formats})  # type: ignore[call-overload]
    return dtype


def _from_ml_dtypes(name: str) -> DType:
    import ml_dtypes  # late, because most programs never meet one of its dtypes

    scalar = getattr(ml_dtypes, name, None)
    if not (isinstance(scalar, type) and issubclass(scalar, np.generic)):
        raise TypeError(name)
    return np.dtype(scalar)


@lru_cache(maxsize=512)
def wire_type(dtype: DType) -> WireType:
    """Return how this dtype travels in a safetensors file."""
    name = name_of(dtype)
    code = CODE_OF_NAME.get(name)
    true_name = name if code is None else None
    return WireType(code or "U8", true_name, dtype.itemsize, dtype.alignment)
