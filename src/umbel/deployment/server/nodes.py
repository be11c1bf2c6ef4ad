"""The server's end of ``Nodes``: one stream a node."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from umbel.base import ConfigError, NotAuthenticated, ProtocolError, UmbelError, VersionMismatch
from umbel.coordinator import (
    Answer,
    Failure,
    Heartbeat,
    NodeConnected,
    NodeDisconnected,
    NodeJoined,
    Object,
    ReplyReceived,
    TaskAccepted,
)
from umbel.deployment.errors import abort_with, readable
from umbel.deployment.server.callers import Callers
from umbel.deployment.server.openfiles import OpenFiles
from umbel.deployment.server.plane import Plane
from umbel.deployment.software import software
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import NodesServicer
from umbel.records import DEFAULT_CODEC, codec_names

PROTOCOL_MIN = PROTOCOL_MAX = 1
HEARTBEAT_S = 15.0
CONTENT_MAX_BYTES = 64 * 1024
"""A reply of at most this size may travel in the stream itself."""

_HELLO_S = 30.0
_SECRET_MIN_BYTES = 16
_Context = grpc.aio.ServicerContext[Any, Any]


class NodesService(NodesServicer):
    """Serves the streams of nodes."""

    def __init__(self, plane: Plane, callers: Callers, files: OpenFiles) -> None:
        self._plane = plane
        self._callers = callers
        self._files = files

    async def Connect(  # noqa: N802  the name is the wire's
        self, request_iterator: AsyncIterator[wire.FromNode], context: _Context
    ) -> AsyncIterator[wire.ToNode]:
        plane = self._plane
        incoming = readable(request_iterator)
        try:
            hello = await _first(incoming)
            self._files.admit()  # only now: who is still writing would not hear why
            protocol = _protocol(hello)
            codec = _codec(hello)
            node_id = await self._identify(hello, context)
        except UmbelError as error:
            await abort_with(context, error)
        session, queue = plane.open_session()
        yield _welcome(hello, protocol, codec, node_id, plane.clock.now())
        reader = asyncio.create_task(self._read(incoming, node_id, session, queue))
        try:
            plane.submit(
                NodeConnected(
                    at=plane.clock.now(),
                    node=node_id,
                    session=session,
                    capacity=max(1, hello.capacity),
                    held=tuple(hello.held),
                )
            )
            plane.software[node_id] = hello.software
            plane.codecs[node_id] = "" if codec == DEFAULT_CODEC else codec
            await plane.nodes_changed()
            while (item := await queue.get()) is not None:
                yield item
            await _raise_if_failed(reader, context)
        except UmbelError as error:
            await abort_with(context, error)
        finally:
            reader.cancel()
            plane.drop_session(session)
            if session in plane.state.live.sessions:
                with contextlib.suppress(ConfigError):  # of the journal, which ends the server
                    plane.submit(NodeDisconnected(at=plane.clock.now(), session=session))

    async def _identify(self, hello: wire.Hello, context: _Context) -> int:
        """Return which node says hello; without TLS one that is new joins."""
        caller = self._callers.known(context).require("node")
        if caller.node_id is not None:
            return caller.node_id
        if len(hello.secret) < _SECRET_MIN_BYTES:
            raise NotAuthenticated(
                f"without TLS a node shows a secret of at least {_SECRET_MIN_BYTES} bytes",
                hint="draw one at random when the node first starts, and keep it",
            )
        fingerprint = hashlib.sha256(hello.secret).hexdigest()
        node = self._plane.state.node_of(fingerprint)
        if node is None:
            await self._plane.submit(
                NodeJoined(
                    at=self._plane.clock.now(),
                    name=hello.name,
                    fingerprint=fingerprint,
                    tags=dict(hello.tags),
                )
            )
            node = self._plane.state.node_of(fingerprint)
        assert node is not None  # it has just joined
        return node.id

    async def _read(
        self,
        incoming: AsyncIterator[wire.FromNode],
        node_id: int,
        session: int,
        queue: asyncio.Queue[wire.ToNode | None],
    ) -> None:
        """Let happen what the node says, until its stream ends."""
        try:
            async for item in incoming:
                await self._take(item, node_id, session)
        finally:
            queue.put_nowait(None)

    async def _take(self, item: wire.FromNode, node_id: int, session: int) -> None:
        now = self._plane.clock.now()
        kind = item.WhichOneof("kind")
        if kind == "heartbeat":
            self._plane.submit(Heartbeat(at=now, session=session))
        elif kind == "accepted":
            name = item.accepted.message_id
            self._plane.submit(TaskAccepted(at=now, session=session, message=name))
        elif kind == "reply":
            self._plane.submit(
                ReplyReceived(
                    at=now,
                    node=node_id,
                    message=item.reply.message_id,
                    answer=self._answer(item.reply),
                )
            )
        else:
            raise ProtocolError(
                f"a node does not send {kind or 'an empty message'} here", node=node_id
            )

    def _answer(self, reply: wire.Reply) -> Answer:
        outcome = reply.WhichOneof("outcome")
        if outcome == "failure":
            failure = reply.failure
            return Answer(failure=Failure(failure.code, failure.kind, failure.reason))
        if outcome == "content":
            if len(reply.content) > CONTENT_MAX_BYTES:
                raise ProtocolError(
                    f"a reply of {len(reply.content)} bytes is too large for the stream",
                    hint=f"push what is larger than {CONTENT_MAX_BYTES} bytes as an object",
                )
            return Answer(content=reply.content, codec=reply.codec)
        if outcome != "body" or self._plane.objects.size(reply.body.hash) is None:
            raise ProtocolError(
                "the reply names an object that is not here",
                hint="push it first",
                message_id=reply.message_id,
            )
        self._plane.objects.touch(reply.body.hash)
        body = Object(reply.body.hash, reply.body.size_bytes)
        return Answer(object=body, codec=reply.codec)


async def _first(incoming: AsyncIterator[wire.FromNode]) -> wire.Hello:
    try:
        async with asyncio.timeout(_HELLO_S):
            item = await anext(incoming, None)
    except TimeoutError:
        item = None
    if item is None or item.WhichOneof("kind") != "hello":
        raise ProtocolError("a stream begins with Hello", hint="see docs/wire.md")
    return item.hello


def _protocol(hello: wire.Hello) -> int:
    newest = min(hello.protocol_max, PROTOCOL_MAX)
    if newest >= max(hello.protocol_min, PROTOCOL_MIN):
        return newest
    older = "node" if hello.protocol_max < PROTOCOL_MIN else "server"
    raise VersionMismatch(
        f"the node speaks versions {hello.protocol_min} to {hello.protocol_max} of the wire, "
        f"the server {PROTOCOL_MIN} to {PROTOCOL_MAX}",
        hint=f"upgrade the {older}",
    )


def _codec(hello: wire.Hello) -> str:
    """Return the first of the node's codecs that is known here."""
    offered, known = list(hello.codecs) or [DEFAULT_CODEC], codec_names()
    for name in offered:
        if name in known:
            return name
    raise ProtocolError(
        f"the node reads contents as {', '.join(offered)[:200]}, the server as {', '.join(known)}",
        hint=f"let the node offer {DEFAULT_CODEC!r} as well, or install its codec on the server",
    )


def _welcome(hello: wire.Hello, protocol: int, codec: str, node_id: int, now: float) -> wire.ToNode:
    zstd = wire.COMPRESSION_ZSTD in hello.compressions
    return wire.ToNode(
        welcome=wire.Welcome(
            protocol=protocol,
            node_id=node_id,
            software=software(),
            heartbeat_s=HEARTBEAT_S,
            server_time_s=now,
            codec=codec,
            compression=wire.COMPRESSION_ZSTD if zstd else wire.COMPRESSION_NONE,
        )
    )


async def _raise_if_failed(reader: asyncio.Task[None], context: _Context) -> None:
    """Raise what ended the reading, if it was an error of the node's doing."""
    with contextlib.suppress(asyncio.CancelledError):
        if reader.done() and (error := reader.exception()) is not None:
            raise error
