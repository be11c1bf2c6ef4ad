"""One session with the server: the greeting, what is sent, what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, cast

import grpc
import grpc.aio

from umbel.base import SYSTEM_CLOCK, ProtocolError, Unreachable, VersionMismatch
from umbel.deployment.channel import open_channel
from umbel.deployment.chunks import ObjectsClient
from umbel.deployment.errors import mapped
from umbel.deployment.node.settings import NodeSettings
from umbel.deployment.software import software
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import EnrolmentStub, NodesStub
from umbel.records import DEFAULT_CODEC

T = TypeVar("T")

PROTOCOL_MIN = PROTOCOL_MAX = 1

_EOF: object = vars(grpc.aio)["EOF"]  # the stubs do not know it
_GREETING_S = 30.0


class Connection:
    """A session that the server has welcomed.

    Attributes
    ----------
    objects : ObjectsClient
        The server's objects.
    welcome : Welcome
        What the server said.
    lost : asyncio.Event
        Set when the session has ended.
    """

    def __init__(self, call: Any, channel: grpc.aio.Channel, welcome: wire.Welcome) -> None:
        self._call = call
        self._sending = asyncio.Lock()
        self._enrolment = cast(Any, EnrolmentStub(channel))
        self.objects = ObjectsClient(channel)
        self.welcome = welcome
        self.lost = asyncio.Event()

    @property
    def compression(self) -> wire.Compression.ValueType:
        """How chunks are packed that are sent."""
        return self.welcome.compression

    @property
    def accepts(self) -> Sequence[wire.Compression.ValueType]:
        """How chunks may be packed that come: what the server chose, or not at all."""
        return tuple({self.compression, wire.COMPRESSION_NONE})

    async def send(self, message: wire.FromNode) -> None:
        """Send a message.

        Raises
        ------
        Unreachable
            The session has ended.
        """
        async with self._sending:
            try:
                await self._call.write(message)
            except (grpc.RpcError, asyncio.InvalidStateError) as error:
                raise Unreachable("the session has ended") from error

    async def beat(self) -> None:
        """Send a heartbeat in time, again and again, until the session ends."""
        pause_s = max(0.1, self.welcome.heartbeat_s / 2)
        with suppress(Unreachable):
            while True:
                await asyncio.sleep(pause_s)
                beat = wire.Heartbeat(sent_at=SYSTEM_CLOCK.now())
                await self.send(wire.FromNode(heartbeat=beat))

    async def messages(self) -> AsyncIterator[wire.ToNode]:
        """Yield what the server sends.

        Raises
        ------
        Unreachable
            The session has ended.
        UmbelError
            The server ended it, and says why.
        """
        try:
            while (message := await self._call.read()) is not _EOF:
                yield message
        except grpc.RpcError as error:
            raise mapped(error) from error
        raise Unreachable("the server ended the session")

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of work that needs the session, and end it with the session.

        Raises
        ------
        Unreachable
            The session has ended. What gRPC says to calls on a channel that is being closed is not
            to be told from a cancellation of the caller, and does not get out of here.
        """
        task = asyncio.create_task(work)
        lost = asyncio.create_task(self.lost.wait())
        try:
            await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (task, lost):
                each.cancel()
            await asyncio.gather(task, lost, return_exceptions=True)
        failed = task.cancelled() or task.exception() is not None
        if failed and self.lost.is_set():
            raise Unreachable("the session has ended")
        return task.result()

    async def renewal(self, request_pem: bytes) -> bytes:
        """Return a new certificate (PEM) for the one that was shown.

        Raises
        ------
        UmbelError
            There is none to be had, for now or for ever.
        """
        request = wire.RenewRequest(certificate_request=request_pem)
        try:
            reply = await self._enrolment.Renew(request, timeout=_GREETING_S)
        except grpc.RpcError as error:
            raise mapped(error) from error
        return bytes(reply.certificate)

    async def leave(self) -> None:
        """Tell the server that nothing will be sent any more."""
        with suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._call.done_writing()


@asynccontextmanager
async def connected(
    settings: NodeSettings, secret: bytes, held: Sequence[str]
) -> AsyncIterator[Connection]:
    """Connect, greet the server and be welcomed; hang up at the end.

    Parameters
    ----------
    settings : NodeSettings
        The owner's.
    secret : bytes
        How the server knows the node again where there is no TLS.
    held : sequence of str
        The messages that were accepted and not acknowledged.

    Raises
    ------
    VersionMismatch
        There is no version of the wire that both sides speak; the text says which is older.
    UmbelError
        The server cannot be reached, or refuses the node.
    """
    channel = open_channel(settings.address, settings.credentials, server_name=settings.server_name)
    async with channel:
        call = cast(Any, NodesStub(channel)).Connect()
        try:
            async with asyncio.timeout(_GREETING_S):
                await call.write(wire.FromNode(hello=_hello(settings, secret, held)))
                answer = await call.read()
        except TimeoutError:
            raise Unreachable(f"the server said nothing for {_GREETING_S:g} s") from None
        except grpc.RpcError as error:
            raise mapped(error) from error
        if answer is _EOF:
            raise Unreachable("the server ended the session without a word")
        if answer.WhichOneof("kind") != "welcome":
            raise ProtocolError(
                "the server's first message is no welcome", hint="is it a server of Umbel?"
            )
        connection = Connection(call, channel, _checked(answer.welcome, settings.codecs))
        try:
            yield connection
        finally:
            connection.lost.set()
            call.cancel()


def _hello(settings: NodeSettings, secret: bytes, held: Sequence[str]) -> wire.Hello:
    return wire.Hello(
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        software=software(),
        name=settings.name,
        secret=b"" if _shows_certificate(settings) else secret,
        tags=dict(settings.tags),
        capacity=settings.max_tasks,
        held=held,
        codecs=settings.codecs,
        compressions=[
            *([wire.COMPRESSION_ZSTD] if settings.compress else []),
            wire.COMPRESSION_NONE,
        ],
    )


def _shows_certificate(settings: NodeSettings) -> bool:
    return settings.credentials is not None and bool(settings.credentials.certificate)


def _checked(welcome: wire.Welcome, codecs: Sequence[str]) -> wire.Welcome:
    if not PROTOCOL_MIN <= welcome.protocol <= PROTOCOL_MAX:
        older, newer = "server", "node"
        if welcome.protocol > PROTOCOL_MAX:
            older, newer = newer, older
        raise VersionMismatch(
            f"the server speaks version {welcome.protocol} of the wire and this node "
            f"{PROTOCOL_MAX}",
            hint=f"upgrade the {older}: it is older than the {newer}",
            server=welcome.software or None,
            node=software(),
        )
    codec = welcome.codec or DEFAULT_CODEC
    if codec not in codecs:
        raise ProtocolError(
            f"the server chose the codec {codec!r}, and was offered {', '.join(codecs)}",
            hint=f"upgrade the server, or offer {DEFAULT_CODEC!r}",
        )
    return welcome
