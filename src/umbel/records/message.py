"""What travels between the server and the nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from umbel.base import MESSAGE_TTL_S, SYSTEM_CLOCK, RecordError
from umbel.records.metadata import Metadata
from umbel.records.recorddict import RecordDict


class ErrorCode(IntEnum):
    """Why there is an error in place of a reply."""

    UNKNOWN = 0
    LOAD_CLIENT_APP_EXCEPTION = 1
    CLIENT_APP_RAISED_EXCEPTION = 2
    MESSAGE_UNAVAILABLE = 3
    REPLY_MESSAGE_UNAVAILABLE = 4
    NODE_UNAVAILABLE = 5
    MOD_FAILED_PRECONDITION = 6
    INVALID_FAB = 7
    CLIENT_APP_CRASHED = 8
    POLICY_REFUSED = 9


@dataclass(frozen=True, slots=True)
class Error:
    """Why a node sent no content.

    Parameters
    ----------
    code : int
        One of ``ErrorCode``.
    reason : str, optional
        What went wrong, in a sentence.
    kind : str, optional
        The name of the exception's type, or of the signal that ended the process.
    traceback : str, optional
        Where it went wrong.

    Examples
    --------
    >>> str(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "no data", kind="ValueError"))
    'CLIENT_APP_RAISED_EXCEPTION (2): ValueError: no data'
    """

    code: int
    reason: str | None = None
    kind: str | None = field(default=None, kw_only=True)
    traceback: str | None = field(default=None, kw_only=True, repr=False)

    def __str__(self) -> str:
        name = ErrorCode(self.code).name if self.code in set(ErrorCode) else "error"
        return ": ".join(
            part for part in (f"{name} ({int(self.code)})", self.kind, self.reason) if part
        )


class Message:
    """A request to a node, or a node's reply: content or an error.

    It takes three forms: ``Message(content, dst_node_id, message_type)`` is a request,
    ``Message(content, reply_to=message)`` a reply, ``Message(error, reply_to=message)`` a reply
    that says why there is no content.

    Parameters
    ----------
    content : RecordDict or Error
        What the message carries.
    dst_node_id : int, optional
        The node that a request is for.
    message_type : str, optional
        What a request asks for: one of ``MessageType``, or ``"train.<action>"``.
    ttl : float, optional
        How long the message is valid, in seconds. A reply is valid at most as long as its request.
    group_id : str, optional
        A name for requests that belong together, such as the round.
    reply_to : Message, optional
        The request that this message answers.
    error : Error, optional
        The same as giving an Error as content.
    metadata : Metadata, optional
        The whole envelope, for a message that is read back from bytes.

    Raises
    ------
    RecordError
        If the form is none of these.

    Examples
    --------
    >>> request = Message(RecordDict(), dst_node_id=3, message_type="train")
    >>> reply = Message(Error(ErrorCode.UNKNOWN, "no data"), reply_to=request)
    >>> reply.metadata.src_node_id, reply.has_content(), reply.error.reason
    (3, False, 'no data')
    """

    __slots__ = ("_content", "_error", "metadata")

    metadata: Metadata

    def __init__(
        self,
        content: RecordDict | Error | None = None,
        dst_node_id: int | None = None,
        message_type: str | None = None,
        *,
        ttl: float | None = None,
        group_id: str | None = None,
        reply_to: Message | None = None,
        error: Error | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        if isinstance(content, Error):
            content, error = None, content
        if (content is None) == (error is None):
            raise RecordError("a message carries either content or an error")
        if content is not None and not isinstance(content, RecordDict):
            raise RecordError(
                f"the content of a message is a RecordDict, got {type(content).__name__}",
                hint='wrap it: RecordDict({"arrays": ArrayRecord(...)})',
            )
        if ttl is not None and not ttl > 0:
            raise RecordError(f"a message is valid for more than 0 seconds, got ttl={ttl}")
        self._content = content
        self._error = error
        addressed = dst_node_id is not None or message_type is not None
        if metadata is not None:
            if addressed or reply_to is not None or ttl is not None or group_id is not None:
                raise RecordError("metadata already says what the other arguments say")
            self.metadata = metadata
        elif reply_to is not None:
            if addressed or group_id is not None:
                raise RecordError(
                    "a reply takes its address, type and group from the request",
                    hint="give reply_to alone",
                )
            if not isinstance(reply_to, Message):
                raise RecordError(
                    f"reply_to is a {type(reply_to).__name__}, not a Message",
                    hint="give it the message that the handler was called with",
                )
            self.metadata = _reply_metadata(reply_to.metadata, ttl)
        else:
            if dst_node_id is None or message_type is None or error is not None:
                raise RecordError(
                    "a request needs content, dst_node_id and message_type",
                    hint="or is it a reply? Then give reply_to=message",
                )
            self.metadata = Metadata(
                dst_node_id=dst_node_id,
                group_id=group_id or "",
                ttl=MESSAGE_TTL_S if ttl is None else ttl,
                message_type=message_type,
            )

    @property
    def content(self) -> RecordDict:
        """The records that the message carries.

        Raises
        ------
        RecordError
            If it carries an error; the text says which.
        """
        if self._content is None:
            raise RecordError(
                f"the message carries an error and no content: {self._error}",
                hint="ask message.has_content() first",
                node=self.metadata.src_node_id,
            )
        return self._content

    @content.setter
    def content(self, value: RecordDict) -> None:
        if self._error is not None:
            raise RecordError("a message that carries an error takes no content")
        if not isinstance(value, RecordDict):
            raise RecordError(
                f"the content of a message is a RecordDict, got {type(value).__name__}"
            )
        self._content = value

    @property
    def error(self) -> Error:
        """The error that the message carries.

        Raises
        ------
        RecordError
            If it carries content.
        """
        if self._error is None:
            raise RecordError(
                "the message carries content and no error", hint="ask message.has_error() first"
            )
        return self._error

    def has_content(self) -> bool:
        """Return whether the message carries content."""
        return self._content is not None

    def has_error(self) -> bool:
        """Return whether the message carries an error."""
        return self._error is not None

    def __repr__(self) -> str:
        carried = self._error if self._content is None else self._content
        return f"Message({carried!r}, {self.metadata!r})"


def _reply_metadata(request: Metadata, ttl: float | None) -> Metadata:
    now = SYSTEM_CLOCK.now()
    left = max(0.0, request.created_at + request.ttl - now)
    return Metadata(
        request.run_id,
        None,
        request.dst_node_id,
        request.src_node_id,
        request,
        request.group_id,
        now,
        None,
        left if ttl is None else min(ttl, left),
        request.message_type,
    )
