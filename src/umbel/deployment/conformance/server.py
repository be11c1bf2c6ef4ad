"""A server that does what a script says: greets, gives tasks, goes away in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from umbel.base import ProtocolError, ReplyTimeout, UmbelError
from umbel.deployment.channel import server_options
from umbel.deployment.conformance.objects import ObjectTable
from umbel.deployment.errors import abort_with
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import (
    NodesServicer,
    add_NodesServicer_to_server,
    add_ObjectsServicer_to_server,
)

PATIENCE_S = 20.0
"""How long a node may take for its next message."""

_CLOSE = object()


class Session:
    """A node's stream, as a script sees it.

    Attributes
    ----------
    hello : Hello
        What the node said first.
    ended : asyncio.Event
        Set when the stream has ended on either side.
    beats_at : list of float
        When heartbeats came, on the event loop's clock.
    """

    def __init__(self, hello: wire.Hello, patience_s: float = PATIENCE_S) -> None:
        self.hello = hello
        self.beats_at: list[float] = []
        self._patience_s = patience_s
        self.ended = asyncio.Event()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        self._in: asyncio.Queue[wire.FromNode] = asyncio.Queue()

    def welcome(self, **fields: Any) -> None:
        """Welcome the node; the fields change those of the usual welcome."""
        usual: dict[str, Any] = {"protocol": 1, "heartbeat_s": 30.0}
        self.send(welcome=wire.Welcome(**(usual | fields)))

    def send(self, **kind: Any) -> None:
        """Send a message to the node: ``send(task=Task(...))``."""
        self._out.put_nowait(wire.ToNode(**kind))

    def refuse(self, error: UmbelError) -> None:
        """End the stream with an error."""
        self._out.put_nowait(error)

    def close(self) -> None:
        """End the stream without a word."""
        self._out.put_nowait(_CLOSE)

    async def receive(self, kind: str) -> Any:
        """Return the node's next message, apart from heartbeats.

        Raises
        ------
        ReplyTimeout
            It sends none.
        ProtocolError
            It is of another kind.
        """
        message = await self.next_message(kind)
        got = message.WhichOneof("kind")
        if got != kind:
            raise ProtocolError(f"the node sent {got}, where {kind} comes next")
        return getattr(message, kind)

    async def next_message(self, what: str) -> wire.FromNode:
        """Return the node's next message, apart from heartbeats; ``what`` names it in errors.

        Raises
        ------
        ReplyTimeout
            It sends none.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._in.get()
        except TimeoutError:
            raise ReplyTimeout(f"the node sent no {what} within {self._patience_s:g} s") from None

    async def answer_to(self, task: wire.Task) -> wire.Reply:
        """Give the node a task; return its reply, and acknowledge that.

        Raises
        ------
        ProtocolError
            The node accepts or answers something else.
        """
        self.send(task=task)
        accepted = await self.receive("accepted")
        reply: wire.Reply = await self.receive("reply")
        for name in (accepted.message_id, reply.message_id):
            if name != task.message_id:
                raise ProtocolError(f"the node speaks of {name}, and was given {task.message_id}")
        self.send(ack=wire.Ack(message_id=task.message_id))
        return reply


class ScriptedServer(NodesServicer):
    """A server without a will of its own.

    Attributes
    ----------
    objects : ObjectTable
        What can be pulled, and what was pushed.
    port : int
        Where it listens, once started; the same one when started again.

    Parameters
    ----------
    host : str
        The address to listen on.
    port : int
        0 for any that is free.
    patience_s : float
        How long a node may take for its next message.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, patience_s: float = PATIENCE_S
    ) -> None:
        self.objects = ObjectTable()
        self.port = port
        self._host = host
        self._patience_s = patience_s
        self._sessions: asyncio.Queue[Session] = asyncio.Queue()

    async def start(self) -> None:
        """Listen."""
        self._server = grpc.aio.server(options=server_options())
        add_NodesServicer_to_server(self, self._server)
        add_ObjectsServicer_to_server(self.objects, self._server)
        self.port = self._server.add_insecure_port(f"{self._host}:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Hang up on everybody and listen no more."""
        await self._server.stop(None)

    async def session(self, patience_s: float | None = None) -> Session:
        """Return the session of the node that connects next.

        Parameters
        ----------
        patience_s : float, optional
            How long it may take; as long as for a message by default.

        Raises
        ------
        ReplyTimeout
            None does.
        """
        limit_s = self._patience_s if patience_s is None else patience_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._sessions.get()
        except TimeoutError:
            raise ReplyTimeout(f"no node connected within {limit_s:g} s") from None

    async def Connect(  # noqa: N802  the name is the wire's
        self,
        request_iterator: AsyncIterator[wire.FromNode],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[wire.ToNode]:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("kind") != "hello":
            await abort_with(context, ProtocolError("a node's first message is its hello"))
        session = Session(first.hello, self._patience_s)
        reading = asyncio.create_task(_read(request_iterator, session))
        self._sessions.put_nowait(session)
        try:
            while (message := await session._out.get()) is not _CLOSE:
                if isinstance(message, UmbelError):
                    await abort_with(context, message)
                yield message
        finally:
            session.ended.set()
            reading.cancel()


async def _read(messages: AsyncIterator[wire.FromNode], session: Session) -> None:
    async for message in messages:
        if message.WhichOneof("kind") == "heartbeat":
            session.beats_at.append(asyncio.get_running_loop().time())
        else:
            session._in.put_nowait(message)
    session.ended.set()
    session.close()
