"""Handing over what came of a task; whether it is safe is told by the server's acknowledgement."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from umbel.base import ProtocolError, UmbelError, content_hash
from umbel.clientapp import error_fields
from umbel.deployment.errors import may_pass
from umbel.deployment.node.connection import Connection
from umbel.deployment.node.journal import Failure, Journal, Outcome
from umbel.deployment.node.settings import NodeEvent, OnEvent
from umbel.deployment.transfer import push
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ErrorCode

INLINE_MAX_BYTES = 64 * 1024
"""A reply's body of at most this size travels in the stream itself."""

_RETRY_S = 1.0


async def deliver(
    connection: Connection, journal: Journal, outcome: Outcome, on_event: OnEvent
) -> None:
    """Send a reply, its object first, until it is sent or the session has ended.

    A reply that the server will not take for what it is becomes a failure, so that nobody waits.
    """
    while not connection.lost.is_set():
        try:
            reply = await _reply(connection, journal, outcome)
            await connection.send(wire.FromNode(reply=reply))
            return
        except FileNotFoundError:
            return  # acknowledged or cancelled meanwhile
        except (UmbelError, OSError) as error:
            if isinstance(error, UmbelError) and may_pass(error):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_S):
                        await connection.lost.wait()
                continue
            code, reason, kind, _ = error_fields(
                error, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, with_traceback=False
            )
            failure = Failure(code, kind or "", f"the reply cannot be handed over: {reason}")
            outcome = Outcome(outcome.run_id, outcome.message_id, failure=failure)
            journal.commit(outcome)
            on_event(NodeEvent("failed", failure.reason, outcome.run_id, outcome.message_id))


async def _reply(connection: Connection, journal: Journal, outcome: Outcome) -> wire.Reply:
    reply = wire.Reply(message_id=outcome.message_id)
    if outcome.failure is not None:
        failure = outcome.failure
        reply.failure.CopyFrom(
            wire.Failure(code=failure.code, kind=failure.kind, reason=failure.reason)
        )
        return reply
    reply.codec = outcome.codec
    path = journal.reply_path(outcome)
    data = _let_out(path, outcome) if outcome.policy else None
    if outcome.size_bytes <= INLINE_MAX_BYTES:
        reply.content = path.read_bytes() if data is None else data
        return reply
    item = wire.Object(hash=outcome.hash, size_bytes=outcome.size_bytes)
    source = path if data is None else [data]
    await push(connection.objects, item, source, compression=connection.compression)
    reply.body.CopyFrom(item)
    return reply


def _let_out(path: Path, outcome: Outcome) -> bytes:
    """Return what the policy has let out: apps may write to the file as well."""
    data = path.read_bytes()
    if content_hash([data]) != outcome.hash:
        raise ProtocolError("the reply was changed on this node", hint="distrust the app")
    return data
