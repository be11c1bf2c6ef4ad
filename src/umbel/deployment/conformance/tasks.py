"""Cases about tasks: what is in them, what comes back, and how often."""

from __future__ import annotations

import numpy as np

from umbel.base import ProtocolError
from umbel.deployment.conformance.player import Case, Player, unique
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ErrorCode


async def _inline(player: Player) -> None:
    session = await player.session()
    player.check_trained(await player.answered(session, player.train(inline=True)))


async def _body(player: Player) -> None:
    session = await player.session()
    player.check_trained(await player.answered(session, player.train()))


async def _codec(player: Player) -> None:
    arrays = {
        "10": np.array([1, 2], np.int64),
        "2": np.array(7.25, np.float32),
        "a/b%2Fc": np.arange(4, dtype=np.int32).reshape(1, 2, 1, 2),
        "": np.array([1.5], np.float64),
        "重み \u2028\"'": np.array([250], np.uint8),
        "empty": np.zeros((3, 0, 2), np.float64),
        "wide": np.array([2**63 - 2, -(2**63)], np.int64),
        "unsigned": np.array([2**64 - 2, 0], np.uint64),
        "short": np.array([-3], np.int16),
    }
    session = await player.session()
    task = player.train(arrays)
    player.check_trained(await player.answered(session, task), arrays)


async def _failure(player: Player) -> None:
    session = await player.session()
    reply = await player.answered(session, player.query("fail"))
    player.check_failed(reply, ErrorCode.CLIENT_APP_RAISED_EXCEPTION)
    player.check_trained(await player.answered(session, player.train()))


async def _no_handler(player: Player) -> None:
    session = await player.session()
    reply = await player.answered(session, player.query("no-such-thing"))
    player.check_failed(reply, ErrorCode.CLIENT_APP_RAISED_EXCEPTION)


async def _duplicate(player: Player) -> None:
    session = await player.session()
    task = player.train(unique(1))
    player.objects.gate.clear()
    session.send(task=task)
    session.send(task=task)
    await player.receive(session, "accepted", task)
    player.objects.gate.set()
    message = await session.next_message("reply")
    if message.WhichOneof("kind") == "accepted":  # once for each time it came
        message = await session.next_message("reply")
    if message.WhichOneof("kind") != "reply" or message.reply.message_id != task.message_id:
        raise ProtocolError("it sent something else, where the reply comes next")
    player.acknowledge(session, task)
    # Were there a second answer, it would stand before this one.
    player.check_trained(await player.answered(session, player.train()))


async def _again(player: Player) -> None:
    session = await player.session()
    task = player.train()
    first = await player.give(session, task)
    second = await player.answered(session, task)
    if first != second:
        raise ProtocolError("its second reply is not its first")


async def _cancel(player: Player) -> None:
    session = await player.session()
    task = player.train(unique(1))
    player.objects.gate.clear()
    session.send(task=task)
    await player.receive(session, "accepted", task)
    session.send(cancel=wire.Cancel(message_id=task.message_id, reason="too late"))
    other = player.train(inline=True)
    player.check_trained(await player.answered(session, other))
    player.objects.gate.set()
    player.check_trained(await player.answered(session, player.train()))


TASKS = (
    Case("inline", "A task whose records come with it is answered", _inline),
    Case("body", "A task whose arrays lie in an object is answered", _body),
    Case("codec", "Odd names, dtypes, scalars and empty arrays survive", _codec),
    Case("failure", "A handler that fails gives a failure reply with code 2", _failure),
    Case(
        "no-handler", "A message that the app has no handler for gives a failure reply", _no_handler
    ),
    Case("duplicate", "A task that comes twice is answered once", _duplicate),
    Case(
        "again", "A task that was answered and not acknowledged gets the same answer again", _again
    ),
    Case("cancel", "A cancelled task is not answered, and holds up no other", _cancel),
)
