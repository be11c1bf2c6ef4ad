"""Cases about sessions: greeting, heartbeats, coming back, and leaving."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from umbel.base import ProtocolError, VersionMismatch
from umbel.deployment.conformance.player import Case, Player, unique
from umbel.deployment.conformance.server import Session
from umbel.deployment.wire import umbel_pb2 as wire

_SECRET_MIN_BYTES = 16
_HEARTBEAT_S = 1.0
_BEATS = 3
_TOO_NEW = 99


async def _handshake(player: Player) -> None:
    session = await player.session()
    hello = session.hello
    if not 1 <= hello.protocol_min <= 1 <= hello.protocol_max:
        raise ProtocolError(
            f"it speaks versions {hello.protocol_min} to {hello.protocol_max}, which must hold 1"
        )
    if hello.capacity < 1:
        raise ProtocolError("its capacity is 0")
    if player.codec.name not in hello.codecs:
        raise ProtocolError(f"its codecs are {list(hello.codecs)}, without {player.codec.name}")
    if not hello.software:
        raise ProtocolError("it does not say what software it is")
    if len(hello.secret) < _SECRET_MIN_BYTES:
        raise ProtocolError(f"without TLS a secret has {_SECRET_MIN_BYTES} bytes at least")
    again = await player.reconnected(session)
    if again.hello.secret != hello.secret:
        raise ProtocolError("it came back with another secret, so it would be another node")


async def _too_new(player: Player) -> None:
    session = await player.reconnected(await player.session(), protocol=_TOO_NEW)
    session.send(task=player.train(inline=True))
    await _left(session)
    await _works(player, await player.next_session())


async def _refused(player: Player) -> None:
    session = await player.session()
    session.refuse(VersionMismatch("this is a test", hint="come back"))
    await _works(player, await player.next_session())


async def _heartbeat(player: Player) -> None:
    session = await player.reconnected(await player.session(), heartbeat_s=_HEARTBEAT_S)
    welcomed_at = asyncio.get_running_loop().time()
    await asyncio.sleep((_BEATS + 0.5) * _HEARTBEAT_S)  # they are to come of themselves
    times = [welcomed_at, *session.beats_at, asyncio.get_running_loop().time()]
    widest_s = max(after - before for before, after in pairwise(times))
    if widest_s > 1.5 * _HEARTBEAT_S:
        raise ProtocolError(
            f"no heartbeat for {widest_s:.1f} s, and one was asked for each {_HEARTBEAT_S:g} s"
        )
    await player.reconnected(session)


async def _unknown(player: Player) -> None:
    session = await player.session()
    session.send()
    session.send(heartbeat=wire.Heartbeat(sent_at=1.0))
    await _works(player, session)


async def _resent(player: Player) -> None:
    session = await player.session()
    task = player.train()
    first = await player.give(session, task)
    session = await player.reconnected(session)
    if task.message_id not in session.hello.held:
        raise ProtocolError("after a reconnection Hello.held lacks the reply that it still has")
    second = await player.receive(session, "reply", task)
    if first != second:
        raise ProtocolError("the reply that it sent again is another one")
    player.acknowledge(session, task)
    await _works(player, session)  # by then it has read the acknowledgement
    session = await player.reconnected(session)
    if task.message_id in session.hello.held:
        raise ProtocolError("Hello.held names a reply that was acknowledged")


async def _kept(player: Player) -> None:
    session = await player.session()
    arrays = unique(1)
    task = player.train(arrays)
    player.objects.gate.clear()
    session.send(task=task)
    await player.receive(session, "accepted", task)
    session = await player.reconnected(session)
    if task.message_id not in session.hello.held:
        raise ProtocolError("after a reconnection Hello.held lacks a task that it had accepted")
    player.objects.gate.set()
    reply = await player.receive(session, "reply", task)
    player.acknowledge(session, task)
    player.check_trained(reply, arrays)


async def _run_over(player: Player) -> None:
    session = await player.session()
    task = player.train(run_id="run-2")
    await player.give(session, task)
    session.send(run_over=wire.RunOver(run_id="run-2", final=True))
    await _works(player, session)
    session = await player.reconnected(session)
    if task.message_id in session.hello.held:
        raise ProtocolError("Hello.held names a reply of a run that is over")
    await _works(player, session)


async def _goodbye(player: Player) -> None:
    session = await player.session()
    session.send(goodbye=wire.Goodbye(reason="restarting"))
    await _works(player, await player.reconnected(session))


async def _works(player: Player, session: Session) -> None:
    player.check_trained(await player.answered(session, player.train(inline=True)))


async def _left(session: Session) -> None:
    """Wait until the client has hung up; it may send nothing before."""
    ended = asyncio.create_task(session.ended.wait())
    message = asyncio.create_task(session.next_message("end of the session"))
    try:
        await asyncio.wait({ended, message}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return
        kind = message.result().WhichOneof("kind")  # raises if it said nothing and stayed
        raise ProtocolError(f"it sent {kind} to a server of version {_TOO_NEW}")
    finally:
        ended.cancel()
        message.cancel()


SESSIONS = (
    Case("handshake", "Hello says all that it must, and the same secret each time", _handshake),
    Case(
        "version-too-new",
        "A server that chose a version too new for it is left, and tried again",
        _too_new,
    ),
    Case("refused", "A server that refuses it is tried again", _refused),
    Case("heartbeat", "Heartbeats come as often as the server asks", _heartbeat),
    Case("unknown-message", "A kind of message that it does not know is ignored", _unknown),
    Case(
        "resent",
        "A reply that was not acknowledged is sent again after a reconnection, and then no more",
        _resent,
    ),
    Case(
        "kept",
        "A task that it had accepted is answered after a reconnection, without being sent again",
        _kept,
    ),
    Case("run-over", "A run that is over is forgotten, with its replies", _run_over),
    Case("goodbye", "After a goodbye it comes back", _goodbye),
)
