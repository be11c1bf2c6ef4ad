"""Objects in memory, and transfers that are cut on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from umbel.base import NotFound, ProtocolError, UmbelError, Unreachable, content_hash
from umbel.deployment.errors import abort_with
from umbel.deployment.transfer import CHUNK_BYTES, packer, unpacked
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import ObjectsServicer

_Context = grpc.aio.ServicerContext[Any, Any]


class ObjectTable(ObjectsServicer):
    """Serves objects from memory, and notes who asked for what.

    Attributes
    ----------
    complete : dict of str to bytes
        Objects by name. A test may put bytes under a name that is not theirs.
    partial : dict of str to bytearray
        Objects that a push has not finished.
    pulls, pushes : list of (str, int)
        Name and first offset of each transfer, in order.
    cut_after_bytes : int
        How many bytes pass in a transfer that is cut.
    cuts : int
        How many of the next transfers are cut.
    push_cuts : int
        How many of the next pushes are cut, beside those.
    gate : asyncio.Event
        Pulls wait while it is clear.
    begun : asyncio.Event
        Set when a transfer begins.
    compression : Compression
        How chunks are packed when the other side accepts it.
    """

    def __init__(self) -> None:
        self.complete: dict[str, bytes] = {}
        self.partial: dict[str, bytearray] = {}
        self.pulls: list[tuple[str, int]] = []
        self.pushes: list[tuple[str, int]] = []
        self.cut_after_bytes = 0
        self.cuts = 0
        self.push_cuts = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.compression: wire.Compression.ValueType = wire.COMPRESSION_NONE

    def add(self, data: bytes) -> wire.Object:
        """Keep an object and return its name and size."""
        name = content_hash([data])
        self.complete[name] = data
        return wire.Object(hash=name, size_bytes=len(data))

    async def Stat(  # noqa: N802  the name is the wire's
        self, request: wire.StatRequest, context: _Context
    ) -> wire.StatReply:
        names = request.hashes
        return wire.StatReply(
            stored_bytes=[
                len(self.complete.get(name, self.partial.get(name, b""))) for name in names
            ],
            complete=[name in self.complete for name in names],
        )

    async def Pull(  # noqa: N802
        self, request: wire.PullRequest, context: _Context
    ) -> AsyncIterator[wire.Chunk]:
        name, offset = request.object.hash, int(request.offset)
        self.pulls.append((name, offset))
        self.begun.set()
        await self.gate.wait()
        data = self.complete.get(name)
        if data is None:
            await abort_with(context, NotFound(f"there is no object {name[:12]}"))
        accepted = self.compression in request.accepts
        pack = packer(self.compression if accepted else wire.COMPRESSION_NONE)
        passed, cut = 0, self._taken_cut()
        while offset < len(data):
            if cut is not None and passed >= cut:
                await abort_with(context, Unreachable("cut"))
            piece = data[offset : offset + CHUNK_BYTES]
            packed, compression = pack(piece)
            yield wire.Chunk(offset=offset, data=packed, compression=compression)
            offset += len(piece)
            passed += len(piece)

    async def Push(  # noqa: N802
        self, request_iterator: AsyncIterator[wire.PushChunk], context: _Context
    ) -> wire.PushReply:
        try:
            return wire.PushReply(stored_bytes=await self._take(request_iterator))
        except UmbelError as error:
            await abort_with(context, error)

    async def _take(self, chunks: AsyncIterator[wire.PushChunk]) -> int:
        name, size, passed, cut = "", 0, 0, self._taken_cut(is_push=True)
        async for item in chunks:
            if not name:
                name, size = item.object.hash, int(item.object.size_bytes)
                self.pushes.append((name, int(item.chunk.offset)))
                self.begun.set()
            stored = self.partial.setdefault(name, bytearray())
            if item.chunk.offset != len(stored):
                raise ProtocolError(f"offset {item.chunk.offset}, where {len(stored)} comes next")
            data = unpacked(item.chunk)
            stored += data
            passed += len(data)
            if cut is not None and passed >= cut:
                raise Unreachable("cut")
        stored = self.partial.pop(name, bytearray())
        if len(stored) < size:
            self.partial[name] = stored
        elif content_hash([stored]) != name:
            raise ProtocolError("the object's bytes are not those that it is named by")
        else:
            self.complete[name] = bytes(stored)
        return len(stored)

    def _taken_cut(self, *, is_push: bool = False) -> int | None:
        if is_push and self.push_cuts:
            self.push_cuts -= 1
            return self.cut_after_bytes
        if not self.cuts:
            return None
        self.cuts -= 1
        return self.cut_after_bytes
