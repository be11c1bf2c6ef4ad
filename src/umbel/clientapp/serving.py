"""How a client answers one message, wherever it runs: seeded, and with every failure told."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from umbel.base import SERVER_NODE_ID, Seeds, UmbelError
from umbel.clientapp.app import ClientApp
from umbel.records import Context, Error, ErrorCode, Message, Metadata, RecordDict, codec_of, encode

Buffers = Sequence[bytes | memoryview]
"""A message body as the codec gives it: header first, never joined."""

ErrorFields = tuple[int, str | None, str | None, str | None]
"""Code, reason, kind and traceback of an error reply."""


class Envelope(Protocol):
    """What travels of a message beside its content."""

    @property
    def message_id(self) -> str:
        """The message's name."""

    @property
    def message_type(self) -> str:
        """What it asks for."""

    @property
    def group_id(self) -> str:
        """The name of the requests that it belongs to, such as the round."""

    @property
    def created_at(self) -> float:
        """Seconds since the Unix epoch."""

    @property
    def ttl(self) -> float:
        """How long it is valid, in seconds."""


class Answer(NamedTuple):
    """What came of one message.

    Attributes
    ----------
    content : RecordDict or None
        The reply; ``None`` together with an error.
    body : buffers or None
        The reply as bytes, if they were asked for.
    state : buffers or None
        The context's state as bytes; ``None`` if it is empty. After an error it does not count:
        what the client did to its state is undone.
    error : ErrorFields or None
        Why there is no reply.
    """

    content: RecordDict | None
    body: Buffers | None
    state: Buffers | None
    error: ErrorFields | None


def serve(
    app: ClientApp,
    content: RecordDict,
    envelope: Envelope,
    context: Context,
    seeds: Seeds | None,
    *,
    with_body: bool,
    codec: str = "",
) -> Answer:
    """Let the app answer one message.

    Parameters
    ----------
    app : ClientApp
        The app.
    content, envelope
        The message. The content may be changed by the app.
    context : Context
        The run, the node, its settings and its state.
    seeds : Seeds or None
        The run's. The process-wide generators are seeded from them, by node, type and group, so
        that a client draws the same numbers wherever it runs; ``None`` leaves them alone.
    with_body : bool
        Whether the reply is wanted as bytes.
    codec : str
        In which these are written; the default one if it is empty.
    """
    if seeds is not None:
        name = ("client", context.node_id, envelope.message_type, envelope.group_id)
        seeds.child(*name).seed_globals()
    try:
        reply = app(_message(content, envelope, context), context)
        if reply.has_error():
            return Answer(None, None, None, _fields_of_reply(reply.error))
        body = codec_of(codec).encode(reply.content) if with_body else None
        state = encode(context.state) if len(context.state) else None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not _ignores_interrupts():
            raise
        return Answer(None, None, None, error_fields(error))
    return Answer(reply.content, body, state, None)


def error_fields(
    error: BaseException,
    code: int = ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
    *,
    with_traceback: bool = True,
) -> ErrorFields:
    """Return the fields of the error reply that an exception makes."""
    if isinstance(error, UmbelError):
        reason = f"{error.message}. Hint: {error.hint}" if error.hint else f"{error.message}"
    else:
        reason = _text(error)
    trace = "".join(traceback.format_exception(error)) if with_traceback else None
    return int(code), reason, type(error).__name__, trace


def _message(content: RecordDict, envelope: Envelope, context: Context) -> Message:
    metadata = Metadata(
        run_id=context.run_id,
        message_id=envelope.message_id,
        src_node_id=SERVER_NODE_ID,
        dst_node_id=context.node_id,
        reply_to_message_id="",
        group_id=envelope.group_id,
        created_at=envelope.created_at,
        ttl=envelope.ttl,
        message_type=envelope.message_type,
    )
    return Message(content, metadata=metadata)


def _fields_of_reply(error: Error) -> ErrorFields:
    """Return the fields of a client's own error as the plain values that travel."""
    reason, kind, trace = (
        None if text is None else str(text) for text in (error.reason, error.kind, error.traceback)
    )
    return int(error.code), reason, kind, trace


def _ignores_interrupts() -> bool:
    """Whether Ctrl-C is not for this process, so that a KeyboardInterrupt is a client's own."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _text(error: BaseException) -> str:
    try:
        return str.__str__(str(error))  # which may be a subclass, and these cannot travel
    except Exception:
        return "(its text cannot be made)"
