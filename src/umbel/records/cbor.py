"""The content of a message as one item of CBOR (RFC 8949), for those who have a library for it.

After the tag of self-described CBOR come a byte string, which is the header, encoded in itself, and
a byte string for each array. So the header is bounded before it is read, and arrays are neither
joined when they are written nor read into objects of a library's choice.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from umbel.base import (
    HEADER_MAX_BYTES,
    TENSORS_MAX_COUNT,
    MissingDependency,
    ProtocolError,
    RecordError,
)
from umbel.records.array import Array, little_endian_bytes
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.configrecord import ConfigRecord
from umbel.records.dtypes import dtype_of, name_of
from umbel.records.header import checked_size, no_unicode
from umbel.records.metricrecord import MetricRecord
from umbel.records.recorddict import Record, RecordDict
from umbel.records.values import admit_value

_MAGIC = bytes.fromhex("d9d9f7")  # tag 55799
_BYTES, _LIST = 2, 4
_DEPTH = 6
_VALUE_RECORDS: dict[str, type[MetricRecord] | type[ConfigRecord]] = {
    "metrics": MetricRecord,
    "config": ConfigRecord,
}


class Cbor:
    """The codec ``"cbor"``; ``docs/wire.md`` has the layout.

    Raises
    ------
    MissingDependency
        The library is not installed.

    Examples
    --------
    >>> content = RecordDict({"metrics": MetricRecord({"loss": 0.5})})
    >>> Cbor().decode(b"".join(Cbor().encode(content))) == content
    True
    """

    name = "cbor"

    def __init__(self) -> None:
        try:
            import cbor2
        except ModuleNotFoundError as error:
            raise MissingDependency(
                "the codec 'cbor' needs cbor2", hint='pip install "umbel[deploy]"'
            ) from error
        self._library: Any = cbor2

    def encode(self, content: RecordDict) -> list[bytes | memoryview]:
        """Return the buffers that, one after the other, are the content.

        Raises
        ------
        RecordError
            If a record was changed behind its checks into something that cannot be sent.
        """
        arrays: list[NDArray[Any]] = []
        records: list[list[Any]] = []
        for name, record in content.items():
            if isinstance(record, ArrayRecord):
                held = [array._array for array in record.values()]
                entries = [
                    [k, name_of(a.dtype), a.shape] for k, a in zip(record, held, strict=True)
                ]
                records.append([name, "arrays", entries])
                arrays += held
            else:
                kind = "metrics" if isinstance(record, MetricRecord) else "config"
                records.append(
                    [name, kind, [_typed(k, v, record.kinds) for k, v in record.items()]]
                )
        try:
            header = self._library.dumps(["umbel", 1, records])
        except UnicodeEncodeError as error:
            raise no_unicode() from error
        if len(header) > HEADER_MAX_BYTES or len(arrays) > TENSORS_MAX_COUNT:
            raise RecordError(
                f"the header of this content takes {len(header)} bytes for {len(arrays)} arrays, "
                f"more than the {HEADER_MAX_BYTES} bytes and {TENSORS_MAX_COUNT} arrays that are "
                f"read",
                hint="put long lists of numbers into an array",
            )
        start = _MAGIC + _head(_LIST, 1 + len(arrays)) + _head(_BYTES, len(header)) + header
        buffers: list[bytes | memoryview] = [start]
        for array in arrays:
            buffers += [_head(_BYTES, array.nbytes), little_endian_bytes(array)]
        return buffers

    def decode(self, buffer: bytes | bytearray | memoryview) -> RecordDict:
        """Return the content; arrays are read-only, and views of the buffer where it is aligned.

        Raises
        ------
        ProtocolError
            If the bytes break a rule of the format; the text says which.
        """
        body = memoryview(buffer).cast("B").toreadonly()
        if body[: len(_MAGIC)] != _MAGIC:
            raise ProtocolError("the content does not begin as self-described CBOR does, d9d9f7")
        count, at = _read_head(body, len(_MAGIC), _LIST)
        size, at = _read_head(body, at, _BYTES)
        if not 1 <= count <= 1 + TENSORS_MAX_COUNT or size > HEADER_MAX_BYTES:
            raise ProtocolError(
                f"the content says it has {count - 1} arrays and a header of {size} bytes; more "
                f"than {TENSORS_MAX_COUNT} arrays and {HEADER_MAX_BYTES} bytes are not read"
            )
        records: dict[str, Record] = {}
        expected = 0
        data = at + size
        for name, kind, entries in self._records(bytes(_piece(body, at, size))):
            if name in records:
                raise ProtocolError("a record is listed twice", key=name[:100])
            if kind != "arrays":
                records[name] = _values(name, kind, entries)
                continue
            arrays: dict[str, Array] = {}
            for entry in entries:
                key, dtype, shape, nbytes = _described(entry)
                if key in arrays:
                    raise ProtocolError("an array is listed twice", key=key[:100])
                stated, data = _read_head(body, data, _BYTES)
                if stated != nbytes:
                    raise ProtocolError(
                        f"{stated} bytes come for dtype {dtype} and shape {list(shape)}, which "
                        f"takes {nbytes}",
                        key=key[:100],
                    )
                arrays[key] = _array(_piece(body, data, nbytes), dtype, shape)
                data += nbytes
            expected += len(arrays)
            records[name] = ArrayRecord._holding(arrays)
        if expected != count - 1 or data != body.nbytes:
            raise ProtocolError(
                f"the header lists {expected} arrays, which end at byte {data}; the content says "
                f"it has {count - 1}, and ends at byte {body.nbytes}"
            )
        return RecordDict._holding(records)

    def _records(self, header: bytes) -> list[tuple[str, str, tuple[Any, ...]]]:
        cbor2 = self._library
        decoder = cbor2.CBORDecoder(
            io.BytesIO(header),
            semantic_decoders=_NoTags(),
            object_hook=_no_map,
            strict_hashable_types=True,  # a map is built before the hook sees it
            max_depth=_DEPTH,
        )
        try:
            # What is immutable and empty takes no memory of its own.
            found = decoder.decode(immutable=True)
        except (cbor2.CBORError, ValueError, OverflowError, RecursionError) as error:
            reason = error.__cause__ or error
            raise ProtocolError(
                f"the header is not the CBOR that is read here: {reason}"
            ) from error
        try:
            decoder.read(1)
        except cbor2.CBORDecodeEOF:
            pass
        else:
            raise ProtocolError("the header holds more than one item")
        match found:
            case ("umbel", int(version), tuple(records)) if version == 1 and type(version) is int:
                pass
            case _:
                raise ProtocolError(
                    'the header is not ["umbel", 1, records]',
                    hint="install the same version of Umbel on all machines",
                )
        for record in records:
            match record:
                case (str(), "arrays" | "metrics" | "config", tuple()):
                    pass
                case _:
                    raise ProtocolError(
                        'a record is [name, "arrays" or "metrics" or "config", entries], not '
                        f"{str(record)[:100]}"
                    )
        return list(records)


# ---- Heads: the few bytes before an item that say what it is and how long


def _head(major: int, length: int) -> bytes:
    if length < 24:
        return bytes([major << 5 | length])
    power = next(power for power in range(4) if length < 1 << (8 << power))
    return bytes([major << 5 | 24 + power]) + length.to_bytes(1 << power, "big")


def _read_head(body: memoryview, at: int, major: int) -> tuple[int, int]:
    """Return the length in the head at this place, and where the head ends."""
    what = "a byte string" if major == _BYTES else "a list"
    first = _piece(body, at, 1)[0]
    short = first & 31
    if first >> 5 != major or short > 27:
        raise ProtocolError(f"at byte {at} there is no {what[2:]} whose length is given")
    if short < 24:
        return short, at + 1
    size = 1 << (short - 24)
    return int.from_bytes(_piece(body, at + 1, size), "big"), at + 1 + size


def _piece(body: memoryview, at: int, size: int) -> memoryview:
    if at + size > body.nbytes:
        raise ProtocolError(
            f"the content has {body.nbytes} bytes, too few for {size} more at byte {at}"
        )
    return body[at : at + size]


# ---- The header


class _NoTags(Mapping[int, Any]):
    """In place of a library's meanings of tags, some of which make much of few bytes."""

    def __getitem__(self, tag: int) -> Any:
        return _refuse

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def _refuse(value: object, immutable: bool) -> NoReturn:
    raise ValueError("no tags are read here")


def _no_map(value: object, immutable: bool) -> NoReturn:
    # Here, because an empty one takes a hundred times its byte.
    raise ValueError("no maps are read here")


def _described(entry: Any) -> tuple[str, np.dtype[Any], tuple[int, ...], int]:
    """Return name, dtype, shape and size in bytes of an array."""
    match entry:
        case (str(key), str(dtype_name), tuple(shape)):
            pass
        case _:
            raise ProtocolError(f"an array is [name, dtype, shape], not {str(entry)[:100]}")
    try:
        dtype = dtype_of(dtype_name)
    except RecordError as error:
        raise ProtocolError(error.message, key=key[:100]) from error
    # An item of no bytes is one more dimension, of 0, so that a shape alone is bounded as well.
    sizes = [*shape] if dtype.itemsize else [*shape, 0]
    return key, dtype, shape, checked_size(key, sizes, dtype.itemsize or 1)


def _array(data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    array: NDArray[Any] = np.ndarray(
        shape, dtype, data if math.prod(shape) * dtype.itemsize else None
    )
    if not array.flags.aligned:
        # Heads keep to no multiple of a length, and libraries may want one.
        array = array.copy()
    array.flags.writeable = False
    return Array.wrap(array)


# ---- Values


def _typed(key: str, value: Any, kinds: frozenset[type]) -> list[Any]:
    if type(value) is not list:
        return [key, type(value).__name__, value]
    # Checked again, because a list can be changed after it was put into the record.
    checked = admit_value(key, value, kinds)
    return [key, (type(checked[0]).__name__ if checked else "") + "[]", checked]


def _values(name: str, kind: str, entries: tuple[Any, ...]) -> MetricRecord | ConfigRecord:
    values: dict[str, Any] = {}
    record = _VALUE_RECORDS[kind]
    for entry in entries:
        match entry:
            case (str(key), str(type_name), written):
                pass
            case _:
                raise ProtocolError(
                    f"a value is [name, type, value], not {str(entry)[:100]}", key=name[:100]
                )
        if key in values:
            raise ProtocolError("a value is listed twice", key=key[:100])
        values[key] = _value(key, type_name, written, record.kinds)
    return record._holding(values)


def _value(key: str, type_name: str, written: Any, kinds: frozenset[type]) -> Any:
    scalar = type_name.removesuffix("[]")
    is_list = scalar != type_name
    kind = {kind.__name__: kind for kind in kinds}.get(scalar)
    if kind is None and not (type_name == "[]" and written == ()):
        raise ProtocolError(f"unknown type of value {type_name[:100]!r}", key=key[:100])
    items = list(written) if is_list and type(written) is tuple else [written]
    if kind is float:  # languages with one kind of number write 3.0 as they write 3
        items = [float(item) if type(item) is int else item for item in items]
    try:
        fits = is_list == (type(written) is tuple) and all(type(item) is kind for item in items)
        admitted = admit_value(key, items, kinds) if fits else None
    except RecordError:  # an integer of more than 64 bits
        admitted = None
    if admitted is None:
        raise ProtocolError(
            f"a value is not what its type {type_name} says: {str(written)[:100]}", key=key[:100]
        )
    return admitted if is_list else admitted[0]
