"""The server's end of ``Objects``: bodies in chunks, to and from the object store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, Any

import grpc
import grpc.aio

from umbel.base import NotAllowed, NotFound, ProtocolError, UmbelError, Unreachable
from umbel.deployment.chunks import Chunk, read_push, write_chunk
from umbel.deployment.errors import abort_with, refusing
from umbel.deployment.server.callers import Caller, Callers
from umbel.deployment.server.intake import Intake
from umbel.deployment.transfer import CHUNK_BYTES, packer, store
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.store import ObjectStore

_Context = grpc.aio.ServicerContext[Any, Any]
MayPull = Callable[[Caller, str], bool]
MayPush = Callable[[Caller], bool]
_ROLES = ("node", "user", "admin")
_FREE = nullcontext[Callable[[int], None]](lambda count: None)
_CHUNK_S = 600.0
"""A push of which nothing comes for so long is cut off; it can go on where it was."""


class ObjectsService:
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
        self._open: dict[str, tuple[IO[bytes], int]] = {}
        self._intake = Intake()

    def handlers(self) -> grpc.GenericRpcHandler[Any, Any]:
        """Return the methods as a server takes them: chunks stay bytes, which we read ourselves."""
        return grpc.method_handlers_generic_handler(
            "umbel.v1.Objects",
            {
                "Push": grpc.stream_unary_rpc_method_handler(
                    self.push, response_serializer=wire.PushReply.SerializeToString
                ),
                "Pull": grpc.unary_stream_rpc_method_handler(
                    self.pull, request_deserializer=wire.PullRequest.FromString
                ),
                "Stat": grpc.unary_unary_rpc_method_handler(
                    self.stat,
                    request_deserializer=wire.StatRequest.FromString,
                    response_serializer=wire.StatReply.SerializeToString,
                ),
            },
        )

    @refusing
    async def push(
        self, request_iterator: AsyncIterator[bytes], context: _Context
    ) -> wire.PushReply:
        """Store an object that comes in chunks."""
        caller = self._callers.known(context).require(*_ROLES)
        if not self._may_push(caller):
            raise NotAllowed(
                "nothing waits for an object of this node",
                hint="push the reply to a task, as long as its answer is wanted",
            )
        peer = context.peer() if _waits(caller) else None
        return wire.PushReply(stored_bytes=await self._take(request_iterator, peer))

    async def pull(self, request: wire.PullRequest, context: _Context) -> AsyncIterator[bytes]:
        """Send an object in chunks."""
        try:
            caller = self._callers.known(context).require(*_ROLES)
            name = request.object.hash
            self._store.touch(name)
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
        with self._opened(name) as file:
            offset = request.offset
            while data := await asyncio.to_thread(os.pread, file, CHUNK_BYTES, offset):
                yield write_chunk(Chunk(offset, *pack(data)))
                offset += len(data)

    @refusing
    async def stat(self, request: wire.StatRequest, context: _Context) -> wire.StatReply:
        """Say how much there is of objects: of those to be pushed, when there is room for them."""
        caller = self._callers.known(context).require(*_ROLES)
        sizes_bytes = request.sizes_bytes if _waits(caller) and self._may_push(caller) else ()
        for name, size in zip(request.hashes, sizes_bytes, strict=False):
            if self._store.size(name) is None:
                key = context.peer(), name
                await self._intake.admit(key, size)
                if self._store.size(name) is not None:  # another has pushed the same meanwhile
                    self._intake.drop(key)
        for name in request.hashes:
            self._store.touch(name)  # whoever learns that it is here may refer to it next
        sizes = [self._store.size(name) for name in request.hashes]
        stored = [
            self._store.offset(name) if size is None else size
            for name, size in zip(request.hashes, sizes, strict=True)
        ]
        return wire.StatReply(stored_bytes=stored, complete=[size is not None for size in sizes])

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        """Give the descriptor of an object, one for all who pull it now."""
        file, users = self._open.get(name) or (self._store.path(name).open("rb"), 0)
        self._open[name] = file, users + 1
        try:
            yield file.fileno()
        finally:
            file, users = self._open.pop(name)
            if users > 1:
                self._open[name] = file, users - 1
            else:
                file.close()

    async def _take(self, chunks: AsyncIterator[bytes], peer: str | None) -> int:
        """Write the chunks of one object; return how many of its bytes are stored.

        Who is no peer needs no room.
        """
        coming = _in_time(chunks)
        item, chunk = read_push(await anext(coming, b""))
        if not item.hash:
            raise ProtocolError("a push begins with the object's name and size")
        intake = self._intake.taking((peer, item.hash), item.size_bytes) if peer else _FREE
        async with intake as have_come:
            if self._store.touch(item.hash):
                return item.size_bytes
            begin = chunk.offset
            offset = await asyncio.to_thread(store, self._store, item, chunk)
            async for raw in coming:
                have_come(offset - begin)
                offset = await asyncio.to_thread(store, self._store, item, read_push(raw)[1])
            if offset == item.size_bytes:
                await asyncio.to_thread(self._store.finish, item.hash, item.size_bytes)
        return offset


def _waits(caller: Caller) -> bool:
    """Whether it pushes only when there is room, unlike a user, whose app is small and waited for.

    Without TLS they cannot be told apart.
    """
    return caller.principal is None or caller.node_id is not None


async def _in_time(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield chunks, each of which has to come in time."""
    try:
        while True:
            async with asyncio.timeout(_CHUNK_S):
                raw = await anext(chunks, None)
            if raw is None:
                return
            yield raw
    except TimeoutError:
        raise Unreachable(f"no chunk came for {_CHUNK_S:g} s") from None
