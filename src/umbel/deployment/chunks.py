"""Chunks of objects as bytes of the wire, without the copies that protobuf makes of their data.

What is written is what protobuf would write, byte for byte; what is read may be any encoding of the
message. Only the outer fields are handled here: the data goes from one buffer into another once.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar, cast

import grpc.aio
from google.protobuf.message import DecodeError, Message

from umbel.base import ProtocolError
from umbel.deployment.wire import umbel_pb2 as wire

Data = bytes | memoryview
MessageT = TypeVar("MessageT", bound=Message)

_VARINT, _LENGTH = 0, 2
_VARINT_MAX_BYTES = 9  # so that no number exceeds 63 bits
_PATH = "/umbel.v1.Objects/"


class Chunk(NamedTuple):
    """A piece of an object: ``wire.Chunk``, whose data is not copied."""

    offset: int
    data: Data = b""
    compression: wire.Compression.ValueType = wire.COMPRESSION_NONE


class ObjectsClient:
    """The methods of ``Objects`` on a channel; chunks are bytes, of ``write_push``, ``read_chunk``.

    Parameters
    ----------
    channel : grpc.aio.Channel
        To the server.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stat = channel.unary_unary(
            f"{_PATH}Stat",
            request_serializer=wire.StatRequest.SerializeToString,
            response_deserializer=wire.StatReply.FromString,
        )
        self.push = channel.stream_unary(
            f"{_PATH}Push",
            request_serializer=_unchanged,
            response_deserializer=wire.PushReply.FromString,
        )
        self.pull = channel.unary_stream(
            f"{_PATH}Pull",
            request_serializer=wire.PullRequest.SerializeToString,
            response_deserializer=_unchanged,
        )


def write_chunk(chunk: Chunk) -> bytes:
    """Return a ``wire.Chunk`` as bytes.

    Examples
    --------
    >>> wire.Chunk.FromString(write_chunk(Chunk(3, b"abc"))).data
    b'abc'
    """
    return b"".join(_parts(chunk))


def write_push(item: wire.Object | None, chunk: Chunk) -> bytes:
    """Return a ``wire.PushChunk`` as bytes, with the object's name in the first of a transfer."""
    parts = _parts(chunk)
    named = b"" if item is None else wire.PushChunk(object=item).SerializeToString()
    return b"".join((named, _length(2, sum(map(len, parts))), *parts))


def read_chunk(raw: bytes | memoryview) -> Chunk:
    """Read a ``wire.Chunk``; its data becomes a view of ``raw``.

    Raises
    ------
    ProtocolError
        The bytes are no message of the wire.
    """
    fields = _fields(raw, {1: _VARINT, 2: _LENGTH, 3: _VARINT})
    if fields is not None:
        numbers, views = fields
        compression = cast("wire.Compression.ValueType", numbers.get(3, 0))
        return Chunk(numbers.get(1, 0), views.get(2, b""), compression)
    chunk = _parsed(wire.Chunk, raw)
    return Chunk(chunk.offset, chunk.data, chunk.compression)


def read_push(raw: bytes) -> tuple[wire.Object, Chunk]:
    """Read a ``wire.PushChunk``; the data becomes a view of ``raw``.

    Raises
    ------
    ProtocolError
        The bytes are no message of the wire.
    """
    fields = _fields(raw, {1: _LENGTH, 2: _LENGTH})
    if fields is not None:
        _, views = fields
        return _parsed(wire.Object, views.get(1, b"")), read_chunk(views.get(2, b""))
    push = _parsed(wire.PushChunk, raw)
    return push.object, Chunk(push.chunk.offset, push.chunk.data, push.chunk.compression)


def _unchanged(raw: bytes) -> bytes:
    return raw


def _parts(chunk: Chunk) -> list[Data]:
    # The order of the fields is that of their numbers, as protobuf has it.
    before = wire.Chunk(offset=chunk.offset).SerializeToString()
    after = wire.Chunk(compression=chunk.compression).SerializeToString()
    if not chunk.data:
        return [before, after]
    return [before, _length(2, len(chunk.data)), chunk.data, after]


def _length(field: int, size: int) -> bytes:
    """Return what stands before the bytes of a field."""
    head = bytearray([field << 3 | _LENGTH])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)


def _fields(
    raw: Data, kinds: dict[int, int]
) -> tuple[dict[int, int], dict[int, memoryview]] | None:
    """Cut a message into numbers and views, by field.

    ``None`` if it is not of the plain form that writers use, each of these fields at most once and
    no other; it may be valid all the same, which protobuf is to say.
    """
    view, at = memoryview(raw), 0
    numbers: dict[int, int] = {}
    views: dict[int, memoryview] = {}
    try:
        while at < len(view):
            tag, at = _varint(view, at)
            field, kind = tag >> 3, tag & 7
            if kinds.get(field) != kind or field in numbers or field in views:
                return None
            value, at = _varint(view, at)
            if kind == _VARINT:
                numbers[field] = value
            else:
                views[field] = view[at : at + value]
                at += value
    except IndexError:
        return None
    return (numbers, views) if at == len(view) else None


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Return a number and where it ends; a long one is left to protobuf."""
    value = 0
    for shift in range(0, 7 * _VARINT_MAX_BYTES, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise IndexError


def _parsed(kind: type[MessageT], raw: Data) -> MessageT:
    try:
        return kind.FromString(bytes(raw))
    except DecodeError as error:
        raise ProtocolError(
            "these bytes are no message of the wire", hint="see docs/wire.md"
        ) from error
