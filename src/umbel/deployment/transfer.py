"""Objects to and from the server, in chunks: a cut transfer goes on where it was cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import grpc
import zstandard

from umbel.base import ProtocolError, UmbelError
from umbel.deployment.chunks import Chunk, Data, ObjectsClient, read_chunk, write_push
from umbel.deployment.errors import mapped, may_pass
from umbel.deployment.wire import umbel_pb2 as wire

if TYPE_CHECKING:
    Pack = Callable[[bytes], tuple[bytes, wire.Compression.ValueType]]

CHUNK_BYTES = 1024 * 1024
"""How many bytes of an object one message of the wire carries at most."""

_UNPACKED_MAX_BYTES = 4 * CHUNK_BYTES
_ATTEMPTS = 3
"""How often in a row a transfer may fail without a byte of progress."""

Source = Path | Sequence[bytes | memoryview]
"""A file, or the buffers that make up an object."""


class Target(Protocol):
    """Where a pulled object is written: an object store."""

    def size(self, hash: str, /) -> int | None:
        """Return the size of a complete object."""

    def offset(self, hash: str, /) -> int:
        """Return how many bytes of an incomplete one are kept."""

    def write(self, hash: str, offset: int, data: Data, /) -> None:
        """Add bytes to an incomplete one."""

    def finish(self, hash: str, size_bytes: int, /) -> object:
        """Check the hash of an incomplete one and make it complete.

        Raises
        ------
        ProtocolError
            Its hash is not its name; what there was is deleted.
        """


async def push(
    objects: ObjectsClient,
    item: wire.Object,
    source: Source,
    *,
    compression: wire.Compression.ValueType = wire.COMPRESSION_NONE,
) -> None:
    """Store an object at the server, beginning with the first byte that it lacks.

    Parameters
    ----------
    objects : ObjectsClient
        The server.
    item : Object
        The name and size of the object.
    source : Path or buffers
        Its bytes.
    compression : Compression
        How chunks are packed.

    Raises
    ------
    Unreachable
        The connection was cut, and three attempts to go on brought no byte further.
    UmbelError
        The server refuses it; a wrong hash is a ``ProtocolError``.
    """
    pack = packer(compression)
    failures, best = 0, -1
    while True:
        try:
            reply = await objects.stat(
                wire.StatRequest(hashes=[item.hash], sizes_bytes=[item.size_bytes])
            )
            if not (len(reply.stored_bytes) == len(reply.complete) == 1):
                raise ProtocolError("the server did not answer for the one object it was asked for")
            if reply.complete[0]:
                return
            offset = int(reply.stored_bytes[0])
            if offset > best:
                failures, best = 0, offset
            await _push_from(objects, item, source, offset, pack)
            return
        except grpc.RpcError as error:
            failures = _counted(error, failures)


async def _push_from(
    objects: ObjectsClient, item: wire.Object, source: Source, offset: int, pack: Pack
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        named: wire.Object | None = item
        position = offset
        async for data in _pieces(source, offset):
            yield write_push(named, Chunk(position, *pack(data)))
            position += len(data)
            named = None
        if named is not None:  # all bytes were there, only the end was not told
            yield write_push(named, Chunk(position))

    reply = await objects.push(chunks())
    if reply.stored_bytes != item.size_bytes:
        raise ProtocolError(
            f"the server took the object and stored {reply.stored_bytes} of its "
            f"{item.size_bytes} bytes",
            object=item.hash[:12],
        )


async def pull(
    objects: ObjectsClient,
    item: wire.Object,
    target: Target,
    *,
    accepts: Sequence[wire.Compression.ValueType] = (wire.COMPRESSION_NONE,),
) -> None:
    """Fetch an object into a store, beginning with the first byte that the store lacks.

    Raises
    ------
    Unreachable
        The connection was cut, and three attempts to go on brought no byte further.
    ProtocolError
        The bytes are not those that the object is named by.
    UmbelError
        The server refuses it.
    """
    failures, best = 0, -1
    while target.size(item.hash) is None:
        try:
            offset = target.offset(item.hash)
            if offset > best:
                failures, best = 0, offset
            await _pull_from(objects, item, target, offset, accepts)
            await asyncio.to_thread(target.finish, item.hash, item.size_bytes)
        except grpc.RpcError as error:
            failures = _counted(error, failures)


async def _pull_from(
    objects: ObjectsClient,
    item: wire.Object,
    target: Target,
    offset: int,
    accepts: Sequence[wire.Compression.ValueType],
) -> None:
    if offset >= item.size_bytes:
        return
    async for raw in objects.pull(wire.PullRequest(object=item, offset=offset, accepts=accepts)):
        chunk = read_chunk(raw)
        if chunk.offset != offset:
            raise ProtocolError(
                f"a chunk at offset {chunk.offset}, where {offset} comes next",
                object=item.hash[:12],
            )
        offset = await asyncio.to_thread(store, target, item, chunk)
    if offset != item.size_bytes:
        raise ProtocolError(
            f"the server sent {offset} of {item.size_bytes} bytes", object=item.hash[:12]
        )


def store(target: Target, item: wire.Object, chunk: Chunk) -> int:
    """Unpack a chunk and write it; return where it ends in the object.

    Raises
    ------
    ProtocolError
        It is not what its compression says, or reaches beyond the object.
    """
    data = unpacked(chunk)
    end = chunk.offset + len(data)
    if end > item.size_bytes:
        raise ProtocolError(
            f"bytes up to {end} of an object that has {item.size_bytes}", object=item.hash[:12]
        )
    if data:
        target.write(item.hash, chunk.offset, data)
    return end


def packer(compression: wire.Compression.ValueType) -> Pack:
    """Return the function that packs the bytes of a chunk and says how they are packed.

    Examples
    --------
    >>> pack = packer(wire.COMPRESSION_ZSTD)
    >>> data, compression = pack(b"umbel" * 100)
    >>> len(data) < 100, unpacked(Chunk(0, data, compression))[:5]
    (True, b'umbel')
    """
    if compression != wire.COMPRESSION_ZSTD:
        return lambda data: (data, wire.COMPRESSION_NONE)
    compressor = zstandard.ZstdCompressor(level=1)

    def pack(data: bytes) -> tuple[bytes, wire.Compression.ValueType]:
        packed = compressor.compress(data)
        if len(packed) < len(data):
            return packed, wire.COMPRESSION_ZSTD
        return data, wire.COMPRESSION_NONE

    return pack


def unpacked(chunk: Chunk | wire.Chunk) -> Data:
    """Return the bytes of a chunk.

    Raises
    ------
    ProtocolError
        They are not what its compression says, or too many for one chunk.
    """
    if chunk.compression == wire.COMPRESSION_NONE:
        return chunk.data
    if chunk.compression != wire.COMPRESSION_ZSTD:
        raise ProtocolError(f"a chunk of unknown compression {chunk.compression}")
    try:
        size = zstandard.frame_content_size(chunk.data)
        if size > _UNPACKED_MAX_BYTES:
            raise ProtocolError(f"a chunk of {size} bytes", hint="send at most 1 MiB in a chunk")
        return zstandard.ZstdDecompressor().decompress(
            chunk.data, max_output_size=_UNPACKED_MAX_BYTES
        )
    except zstandard.ZstdError as error:
        raise ProtocolError(f"a chunk is not the zstd frame that it says: {error}") from error


async def _pieces(source: Source, offset: int) -> AsyncIterator[bytes]:
    """Yield the bytes from ``offset`` on, in pieces of a chunk's size."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            file.seek(offset)
            while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield data
        return
    for buffer in source:
        view = memoryview(buffer).cast("B")
        start, offset = min(offset, len(view)), max(0, offset - len(view))
        for begin in range(start, len(view), CHUNK_BYTES):
            yield bytes(view[begin : begin + CHUNK_BYTES])


def _counted(error: grpc.RpcError, failures: int) -> int:
    """Return how many failures there are now, if it makes sense to try again."""
    problem: UmbelError = mapped(error)
    if not may_pass(problem) or failures + 1 >= _ATTEMPTS:
        raise problem from error
    return failures + 1
