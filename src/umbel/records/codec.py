"""The content of a message as one safetensors file, written and read without a copy.

Each array is a tensor named ``record/array``. ``__metadata__`` holds ``"umbel"``, the version of
the format, and ``"records"``, a JSON list of all records in order; ``encode`` says how.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umbel.base import ProtocolError, RecordError
from umbel.records.array import Array, little_endian_bytes
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.configrecord import ConfigRecord
from umbel.records.dtypes import NAME_OF_CODE, dtype_of, wire_type
from umbel.records.header import Tensor, parse_json, read_header, to_json, write_header
from umbel.records.metricrecord import MetricRecord
from umbel.records.recorddict import Record, RecordDict
from umbel.records.values import CONFIG_KINDS, INT_MAX, INT_MIN, METRIC_KINDS, admit_value

Buffer = bytes | bytearray | memoryview

_VERSION = "1"
_VALUE_RECORDS: dict[str, type[MetricRecord] | type[ConfigRecord]] = {
    "metrics": MetricRecord,
    "config": ConfigRecord,
}
_EXACT_IN_DOUBLES = 1 << 53


def encode(content: RecordDict) -> list[bytes | memoryview]:
    """Return the buffers that, one after the other, are the content as a safetensors file.

    Arrays that are contiguous and little-endian are not copied. The tensors lie by falling
    alignment of their dtypes, and the data starts at a multiple of 64 bytes.

    In ``__metadata__``, ``"records"`` lists the records, each with ``"name"`` and ``"kind"``. A
    record of kind ``"metrics"`` or ``"config"`` has ``"values"``, where each value is an object
    with its type: ``{"loss": {"float": 0.5}, "n": {"int": 3}, "names": {"str[]": ["a"]}}``. Floats
    that are not finite are strings (``"nan"``, ``"inf"``, ``"-inf"``), integers beyond 2**53 are
    strings of digits, bytes are base64. A record of kind ``"arrays"`` has ``"dtypes"`` for those
    of its arrays that travel as ``U8`` with the item's bytes as the last dimension.

    Raises
    ------
    RecordError
        If a record was changed behind its checks into something that cannot be sent.

    Examples
    --------
    >>> content = RecordDict({"metrics": MetricRecord({"loss": 0.5})})
    >>> decode(b"".join(encode(content))) == content
    True
    """
    tensors: list[Tensor] = []
    arrays: list[NDArray[Any]] = []
    alignments: list[int] = []
    records = []
    for name, record in content.items():
        if not isinstance(record, ArrayRecord):
            records.append(_describe_values(name, record))
            continue
        prefix = _escape(name) + "/"
        dtypes = {}
        for key, array in record.items():
            ndarray = array._array
            code, true_name, itemsize, alignment = wire_type(ndarray.dtype)
            shape = ndarray.shape
            if true_name is not None:
                dtypes[key] = true_name
                shape = (*shape, itemsize)
            tensors.append(Tensor(prefix + key, code, shape, 0, ndarray.nbytes))
            arrays.append(ndarray)
            alignments.append(alignment)
        records.append({"name": name, "kind": "arrays"} | ({"dtypes": dtypes} if dtypes else {}))
    buffers: list[bytes | memoryview] = [b""]
    position = 0
    # Size is a multiple of alignment, so after a larger alignment a smaller one always fits.
    for index in sorted(range(len(tensors)), key=alignments.__getitem__, reverse=True):
        tensor = tensors[index]
        end = position + tensor.end
        tensors[index] = tensor._replace(begin=position, end=end)
        if end > position:
            buffers.append(little_endian_bytes(arrays[index]))
        position = end
    buffers[0] = write_header(tensors, {"umbel": _VERSION, "records": to_json(records)})
    return buffers


def decode(buffer: Buffer) -> RecordDict:
    """Return the content of a safetensors file; arrays are read-only views of the buffer.

    A file that others wrote gives one record named ``"arrays"``.

    Parameters
    ----------
    buffer : bytes-like
        The whole file. It must not change or go away as long as the arrays are used.

    Raises
    ------
    ProtocolError
        If the bytes break a rule of the format; the text says which.
    """
    body = memoryview(buffer).cast("B").toreadonly()
    header = read_header(body)
    data = body[header.data_start :]
    version = header.metadata.get("umbel")
    if version is None:
        plain = {t.name: _view(data, t, NAME_OF_CODE[t.code], t.shape) for t in header.tensors}
        return RecordDict({"arrays": ArrayRecord._holding(plain)})
    if version != _VERSION:
        raise ProtocolError(
            f"the body has version {version[:20]!r} of the format, and {_VERSION!r} is read here",
            hint="install the same version of Umbel on all machines",
        )
    return _decode_records(header.metadata.get("records", ""), header.tensors, data)


def size_bytes(buffers: Iterable[Buffer]) -> int:
    """Return how many bytes the buffers hold together."""
    return sum(memoryview(buffer).nbytes for buffer in buffers)


def _escape(record_name: str) -> str:
    """Return the name without slashes, so that the first slash of a tensor's name ends it."""
    return record_name.replace("%", "%25").replace("/", "%2F")


def _decode_records(text: str, tensors: list[Tensor], data: memoryview) -> RecordDict:
    entries = parse_json(text, "the list of records")
    if not isinstance(entries, list):
        raise ProtocolError("the list of records is not a JSON list")
    records: dict[str, Record] = {}
    of_prefix: dict[str, tuple[dict[str, Array], dict[str, str]]] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise ProtocolError("a record has no name")
        if name in records:
            raise ProtocolError("a record is listed twice", key=name[:100])
        kind = entry.get("kind")
        if kind == "arrays":
            arrays: dict[str, Array] = {}
            records[name] = ArrayRecord._holding(arrays)
            of_prefix[_escape(name)] = arrays, _true_dtypes(name, entry)
        elif isinstance(kind, str) and kind in _VALUE_RECORDS:
            records[name] = _read_values(name, kind, entry)
        else:
            raise ProtocolError(f"unknown kind of record {str(kind)[:100]!r}", key=name[:100])
    for tensor in tensors:
        prefix, slash, key = tensor.name.partition("/")
        if not slash or prefix not in of_prefix:
            raise ProtocolError("a tensor belongs to no record", key=tensor.name[:100])
        arrays, dtypes = of_prefix[prefix]
        true_name = dtypes.pop(key, None)
        if true_name is None:
            arrays[key] = _view(data, tensor, NAME_OF_CODE[tensor.code], tensor.shape)
        else:
            arrays[key] = _disguised_view(data, tensor, true_name)
    for _, dtypes in of_prefix.values():
        if dtypes:
            raise ProtocolError("a dtype is given for no tensor", key=next(iter(dtypes))[:100])
    return RecordDict._holding(records)


def _true_dtypes(name: str, entry: dict[str, Any]) -> dict[str, str]:
    dtypes = entry.get("dtypes", {})
    if not isinstance(dtypes, dict) or any(type(v) is not str for v in dtypes.values()):
        raise ProtocolError("dtypes does not map strings to strings", key=name[:100])
    return dtypes


def _disguised_view(data: memoryview, tensor: Tensor, true_name: str) -> Array:
    try:
        itemsize = dtype_of(true_name).itemsize
    except RecordError as error:
        raise ProtocolError(error.message, key=tensor.name[:100]) from error
    if tensor.code != "U8" or not tensor.shape or tensor.shape[-1] != itemsize:
        raise ProtocolError(
            f"an array of dtype {true_name[:100]} travels as U8 with {itemsize} bytes as the last "
            f"dimension, not as {tensor.code} of shape {list(tensor.shape)}",
            key=tensor.name[:100],
        )
    return _view(data, tensor, true_name, tensor.shape[:-1])


def _view(data: memoryview, tensor: Tensor, dtype_name: str, shape: tuple[int, ...]) -> Array:
    if tensor.begin == tensor.end:
        empty: NDArray[Any] = np.ndarray(shape, dtype_of(dtype_name))
        empty.flags.writeable = False
        return Array.wrap(empty)
    return Array.wrap(np.ndarray(shape, dtype_of(dtype_name), data, tensor.begin))


def _describe_values(name: str, record: MetricRecord | ConfigRecord) -> dict[str, Any]:
    is_metrics = isinstance(record, MetricRecord)
    kinds = METRIC_KINDS if is_metrics else CONFIG_KINDS
    values = {}
    for key, value in record.items():
        if type(value) is list:
            # Checked again, because a list can be changed after it was put into the record.
            checked = admit_value(key, value, kinds)
            kind = type(checked[0]).__name__ if checked else ""
            write = _WRITERS.get(kind)
            values[key] = {kind + "[]": list(map(write, checked)) if write else checked}
        else:
            kind = type(value).__name__
            write = _WRITERS.get(kind)
            values[key] = {kind: write(value) if write else value}
    return {"name": name, "kind": "metrics" if is_metrics else "config", "values": values}


def _read_values(name: str, kind: str, entry: dict[str, Any]) -> MetricRecord | ConfigRecord:
    described = entry.get("values")
    if not isinstance(described, dict):
        raise ProtocolError("the record has no values", key=name[:100])
    allowed = {k.__name__ for k in (METRIC_KINDS if kind == "metrics" else CONFIG_KINDS)}
    values: dict[str, Any] = {}
    for key, typed in described.items():
        if not isinstance(typed, dict) or len(typed) != 1:
            raise ProtocolError("a value is an object with its type", key=key[:100])
        [(type_name, written)] = typed.items()
        scalar = type_name.removesuffix("[]")
        is_list = scalar != type_name
        if scalar not in allowed and not (is_list and written == []):
            raise ProtocolError(f"unknown type of value {type_name[:100]!r}", key=key[:100])
        if is_list and not isinstance(written, list):
            raise ProtocolError(f"a value of type {type_name} is a list", key=key[:100])
        try:
            if is_list:
                values[key] = [_READERS[scalar](item) for item in written]
            else:
                values[key] = _READERS[scalar](written)
        except (ValueError, TypeError, OverflowError) as error:
            raise ProtocolError(
                f"a value is not what its type {type_name} says: {str(written)[:100]}",
                key=key[:100],
            ) from error
    return _VALUE_RECORDS[kind]._holding(values)


def _write_int(value: int) -> int | str:
    return value if -_EXACT_IN_DOUBLES <= value <= _EXACT_IN_DOUBLES else str(value)


def _write_float(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _read_int(written: Any) -> int:
    value = int(_of_type(written, int, str))
    if str(value) != str(written) or not INT_MIN <= value <= INT_MAX:
        raise ValueError(written)
    return value


def _read_float(written: Any) -> float:
    if isinstance(written, str) and written not in ("nan", "inf", "-inf"):
        raise ValueError(written)
    return float(_of_type(written, float, int, str))


def _read_bytes(written: Any) -> bytes:
    try:
        return base64.b64decode(_of_type(written, str), validate=True)
    except binascii.Error as error:
        raise ValueError(written) from error


def _of_type(written: Any, *kinds: type) -> Any:
    if type(written) not in kinds:
        raise TypeError(written)
    return written


_WRITERS: dict[str, Callable[[Any], Any]] = {
    "int": _write_int,
    "float": _write_float,
    "bytes": _write_bytes,
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _read_int,
    "float": _read_float,
    "bytes": _read_bytes,
    "str": lambda written: _of_type(written, str),
    "bool": lambda written: _of_type(written, bool),
}
