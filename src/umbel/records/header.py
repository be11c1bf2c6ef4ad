"""The header of a safetensors file: written, and read with distrust.

The file is 8 bytes with the header's length, the header in JSON, and the bytes of all tensors.
Nothing is allocated for a tensor before all that the header says was checked.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from umbel.base import HEADER_MAX_BYTES, TENSORS_MAX_COUNT, ProtocolError, RecordError
from umbel.records.dtypes import ITEMSIZE_OF_CODE

LENGTH_BYTES = 8
ALIGNMENT_BYTES = 64
"""The data starts at a multiple of this, so that views are aligned when the buffer is."""

_METADATA_KEY = "__metadata__"
_DIMENSIONS_MAX = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
_SIZE_MAX = (1 << 63) - 1
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}


class Tensor(NamedTuple):
    """Where the values of one tensor lie, counted from the start of the data."""

    name: str
    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """A header that was checked; ``data_start`` counts from the start of the file."""

    tensors: list[Tensor]
    metadata: dict[str, str]
    data_start: int


to_json = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def write_header(tensors: list[Tensor], metadata: dict[str, str]) -> bytes:
    """Return the length and the header, padded so that the data starts aligned.

    Raises
    ------
    RecordError
        If a name is no valid Unicode, or the header is larger than a reader takes.
    """
    entries: dict[str, Any] = {_METADATA_KEY: metadata}
    for name, code, shape, begin, end in tensors:
        entries[name] = {"dtype": code, "shape": shape, "data_offsets": (begin, end)}
    try:
        text = to_json(entries).encode()
    except UnicodeEncodeError as error:
        raise no_unicode() from error
    padding = -(LENGTH_BYTES + len(text)) % ALIGNMENT_BYTES
    length = len(text) + padding
    if length > HEADER_MAX_BYTES or len(tensors) > TENSORS_MAX_COUNT:
        raise RecordError(
            f"the header of this content takes {length} bytes for {len(tensors)} arrays, more "
            f"than the {HEADER_MAX_BYTES} bytes and {TENSORS_MAX_COUNT} arrays that are read",
            hint="put long lists of numbers into an array",
        )
    return struct.pack("<Q", length) + text + b" " * padding


def no_unicode() -> RecordError:
    """Return the error about text that cannot be written."""
    return RecordError(
        "a name or a text value holds half of a surrogate pair, which is no Unicode text",
        hint="send it as bytes: text.encode('utf-8', 'surrogateescape')",
    )


def read_header(body: memoryview) -> Header:
    """Return the header of a safetensors file.

    Parameters
    ----------
    body : memoryview
        The whole file, as bytes.

    Raises
    ------
    ProtocolError
        If the header breaks a rule of the format; the text says which.
    """
    text, data_start = _header_text(body)
    entries = parse_json(text, "the header")
    if not isinstance(entries, dict):
        raise ProtocolError("the header is not a JSON object")
    metadata = _check_metadata(entries.pop(_METADATA_KEY, {}))
    if len(entries) > TENSORS_MAX_COUNT:
        raise ProtocolError(
            f"the header lists {len(entries)} tensors, more than {TENSORS_MAX_COUNT}"
        )
    tensors = [_check_tensor(name, entry) for name, entry in entries.items()]
    _check_layout(tensors, body.nbytes - data_start)
    return Header(tensors, metadata, data_start)


def parse_json(text: bytes | str, what: str) -> Any:
    """Return the value of a JSON text from a stranger; ``what`` names it in errors.

    Raises
    ------
    ProtocolError
        If it is not strict JSON, has a key twice, or nests too deeply.
    """
    try:
        text = text if isinstance(text, str) else str(text, "utf-8")
        value = _decode(text)
        if "\\u" in text:
            # An escape may be half of a surrogate pair, which nothing could write again.
            to_json(value).encode()
        return value
    except UnicodeError as error:
        raise ProtocolError(f"{what} is not Unicode text") from error
    except RecursionError as error:
        raise ProtocolError(f"{what} nests too deeply") from error
    except ProtocolError:
        raise
    except ValueError as error:
        raise ProtocolError(f"{what} is not JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ProtocolError("a key stands twice in a JSON object", key=twice[:100])
    return value


def _constant(name: str) -> Any:
    raise ProtocolError(f"{name} is not strict JSON")


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant).decode


def _header_text(body: memoryview) -> tuple[bytes, int]:
    if body.nbytes < LENGTH_BYTES:
        raise ProtocolError(
            f"a body of {body.nbytes} bytes is too short for the length of its header"
        )
    (length,) = struct.unpack_from("<Q", body)
    if length > HEADER_MAX_BYTES:
        raise ProtocolError(
            f"the header says it has {length} bytes, more than the {HEADER_MAX_BYTES} that are read"
        )
    data_start = LENGTH_BYTES + length
    if data_start > body.nbytes:
        raise ProtocolError(
            f"the header says it has {length} bytes, but only {body.nbytes - LENGTH_BYTES} follow"
        )
    text = bytes(body[LENGTH_BYTES:data_start])
    if not text.startswith(b"{"):
        raise ProtocolError("the header does not start with '{'")
    return text, data_start


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or any(type(v) is not str for v in metadata.values()):
        raise ProtocolError("__metadata__ does not map strings to strings")
    return metadata


def _check_tensor(name: str, entry: Any) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        raise ProtocolError("a tensor has a dtype, a shape and data_offsets", key=name[:100])
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(code) is not str or code not in ITEMSIZE_OF_CODE:
        raise ProtocolError(f"unknown dtype {str(code)[:100]!r}", key=name[:100])
    size = checked_size(name, shape, ITEMSIZE_OF_CODE[code])
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ProtocolError("data_offsets is a pair [begin, end]", key=name[:100])
    begin, end = offsets
    if size != end - begin:
        raise ProtocolError(
            f"{end - begin} bytes are set aside for dtype {code} and shape {shape}, "
            f"which takes {size}",
            key=name[:100],
        )
    return Tensor(name, code, tuple(shape), begin, end)


def checked_size(name: str, shape: Any, itemsize: int) -> int:
    """Return how many bytes an array takes, of a shape from a stranger; ``name`` is for errors.

    Raises
    ------
    ProtocolError
        If it is no shape of an array.
    """
    if not _are_sizes(shape) or len(shape) > _DIMENSIONS_MAX:
        raise ProtocolError(
            f"a shape is a list of at most {_DIMENSIONS_MAX} non-negative integers",
            key=name[:100],
        )
    size: int = math.prod(shape) * itemsize
    if not size and math.prod(filter(None, shape)) * itemsize > _SIZE_MAX:
        raise ProtocolError("the shape of an empty tensor is too large", key=name[:100])
    return size


def _are_sizes(values: Any) -> bool:
    return type(values) is list and all(type(v) is int and 0 <= v <= _SIZE_MAX for v in values)


def _check_layout(tensors: list[Tensor], data_bytes: int) -> None:
    position = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin < position:
            raise ProtocolError(
                f"the tensor overlaps another: it begins at {tensor.begin}, before {position}",
                key=tensor.name[:100],
            )
        if tensor.begin > position:
            raise ProtocolError(
                f"there is a hole of {tensor.begin - position} bytes before the tensor",
                key=tensor.name[:100],
            )
        position = tensor.end
    if position > data_bytes:
        raise ProtocolError(f"the tensors take {position} bytes, but only {data_bytes} follow")
    if position < data_bytes:
        raise ProtocolError(f"{data_bytes - position} bytes follow the last tensor")
