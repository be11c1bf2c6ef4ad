"""The server's end of ``Objects``: bodies in chunks, to and from the object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc.aio

from umbel.base import NotAllowed, NotFound, ProtocolError, UmbelError
from umbel.deployment.errors import abort_with, readable, refusing
from umbel.deployment.server.callers import Caller, Callers
from umbel.deployment.transfer import CHUNK_BYTES, packer, unpacked
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import ObjectsServicer
from umbel.store import ObjectStore

_Context = grpc.aio.ServicerContext[wire.PullRequest, wire.Chunk]
MayPull = Callable[[Caller, str], bool]
MayPush = Callable[[Caller], bool]
_ROLES = ("node", "user", "admin")


class ObjectsService(ObjectsServicer):
    """Serves the object store to nodes and users.

    Parameters
    ----------
    store : ObjectStore
        Where objects lie.
    callers : Callers
        Says who calls.
    may_pull : callable
        Says whether this caller may read this object: what it was sent, or what is its own.
    may_push : callable
        Says whether this caller may store objects.
    """

    def __init__(
        self, store: ObjectStore, callers: Callers, may_pull: MayPull, may_push: MayPush
    ) -> None:
        self._store = store
        self._callers = callers
        self._may_pull = may_pull
        self._may_push = may_push

    @refusing
    async def Push(  # noqa: N802  the name is the wire's
        self, request_iterator: AsyncIterator[wire.PushChunk], context: _Context
    ) -> wire.PushReply:
        caller = self._callers.known(context).require(*_ROLES)
        if not self._may_push(caller):
            raise NotAllowed(
                "nothing waits for an object of this node",
                hint="push the reply to a task, as long as its answer is wanted",
            )
        return wire.PushReply(stored_bytes=await self._take(readable(request_iterator)))

    async def Pull(  # noqa: N802
        self, request: wire.PullRequest, context: _Context
    ) -> AsyncIterator[wire.Chunk]:
        try:
            caller = self._callers.known(context).require(*_ROLES)
            name = request.object.hash
            size = self._store.size(name)
            if size is None or not self._may_pull(caller, name):
                raise NotFound(f"there is no object {name[:12]} for this caller")
            if request.offset > size:
                raise ProtocolError(
                    f"an offset of {request.offset} lies beyond the {size} bytes of the object"
                )
        except UmbelError as error:
            await abort_with(context, error)
        zstd = wire.COMPRESSION_ZSTD in request.accepts
        pack = packer(wire.COMPRESSION_ZSTD if zstd else wire.COMPRESSION_NONE)
        with self._store.path(name).open("rb") as file:
            file.seek(request.offset)
            offset = request.offset
            while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                packed, compression = pack(data)
                yield wire.Chunk(offset=offset, data=packed, compression=compression)
                offset += len(data)

    @refusing
    async def Stat(  # noqa: N802
        self, request: wire.StatRequest, context: _Context
    ) -> wire.StatReply:
        self._callers.known(context).require(*_ROLES)
        for name in request.hashes:
            self._store.touch(name)  # whoever learns that it is here may refer to it next
        sizes = [self._store.size(name) for name in request.hashes]
        stored = [
            self._store.offset(name) if size is None else size
            for name, size in zip(request.hashes, sizes, strict=True)
        ]
        return wire.StatReply(stored_bytes=stored, complete=[size is not None for size in sizes])

    async def _take(self, chunks: AsyncIterator[wire.PushChunk]) -> int:
        """Write the chunks of one object; return how many of its bytes are stored."""
        name, size, offset = "", 0, 0
        async for item in chunks:
            if not name:
                name, size = item.object.hash, item.object.size_bytes
                if self._store.touch(name):
                    return size
            data = unpacked(item.chunk)
            offset = item.chunk.offset + len(data)
            if offset > size:
                raise ProtocolError(f"more than the {size} bytes that the object was said to have")
            if data:
                await asyncio.to_thread(self._store.write, name, item.chunk.offset, data)
        if not name:
            raise ProtocolError("a push begins with the object's name and size")
        if offset == size:
            await asyncio.to_thread(self._store.finish, name, size)
        return offset
