"""The envelope of a message: who sends what to whom, and until when it is valid."""

from __future__ import annotations

from typing import Any

from umbel.base import MESSAGE_TTL_S, SERVER_NODE_ID, SYSTEM_CLOCK, RecordError, new_id


class MessageType:
    """What a message asks for: one of these, or one with an action, such as ``"train.warm_up"``."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    QUERY = "query"
    SYSTEM = "system"


_WITH_ACTION = frozenset({MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY})
_PLAIN = _WITH_ACTION | {MessageType.SYSTEM}


def check_message_type(message_type: str) -> str:
    """Return the message type if it is one.

    Raises
    ------
    RecordError
        If it is neither a category nor a category and the name of an action.

    Examples
    --------
    >>> check_message_type("train.warm_up")
    'train.warm_up'
    """
    if message_type in _PLAIN:
        return message_type
    category, dot, action = str(message_type).partition(".")
    if not dot or category not in _WITH_ACTION or not action.isidentifier():
        raise RecordError(
            f"{message_type!r} is not a message type",
            hint='use "train", "evaluate" or "query", or add an action: "train.warm_up"',
        )
    return message_type


class Metadata:
    """Who sends what to whom, and until when it is valid.

    Parameters
    ----------
    run_id : str
        The run that the message belongs to.
    message_id : str, optional
        The message's name; drawn when it is first read.
    src_node_id, dst_node_id : int
        The sender (the server by default) and the receiver.
    reply_to_message_id : str
        The message that this one answers; empty for a request.
    group_id : str
        A name that belongs together, such as the round.
    created_at : float, optional
        Seconds since the Unix epoch; now by default.
    delivered_at : float, optional
        When it reached its receiver, in seconds since the Unix epoch.
    ttl : float
        How long it is valid, in seconds from ``created_at``.
    message_type : str
        What it asks for.
    """

    __slots__ = (
        "_message_id",
        "_reply_to",
        "created_at",
        "delivered_at",
        "dst_node_id",
        "group_id",
        "message_type",
        "run_id",
        "src_node_id",
        "ttl",
    )

    def __init__(
        self,
        run_id: str = "",
        message_id: str | None = None,
        src_node_id: int = SERVER_NODE_ID,
        dst_node_id: int = 0,
        reply_to_message_id: str | Metadata = "",
        group_id: str = "",
        created_at: float | None = None,
        delivered_at: float | None = None,
        ttl: float = MESSAGE_TTL_S,
        message_type: str = MessageType.TRAIN,
    ) -> None:
        self.run_id = run_id
        self._message_id = message_id
        self.src_node_id = src_node_id
        self.dst_node_id = dst_node_id
        self._reply_to = reply_to_message_id
        self.group_id = group_id
        self.created_at = SYSTEM_CLOCK.now() if created_at is None else created_at
        self.delivered_at = delivered_at
        self.ttl = ttl
        self.message_type = check_message_type(message_type)

    @property
    def message_id(self) -> str:
        """The message's name."""
        if self._message_id is None:
            # Drawn late: most messages of a simulation are never asked for it.
            self._message_id = new_id()
        return self._message_id

    @message_id.setter
    def message_id(self, value: str) -> None:
        self._message_id = value

    @property
    def reply_to_message_id(self) -> str:
        """The name of the message that this one answers; empty for a request."""
        if isinstance(self._reply_to, Metadata):
            self._reply_to = self._reply_to.message_id
        return self._reply_to

    @reply_to_message_id.setter
    def reply_to_message_id(self, value: str) -> None:
        self._reply_to = value

    def answers(self, request: Metadata) -> bool:
        """Return whether this is the envelope of a reply to ``request``.

        Cheaper than to compare ids, which would have to be drawn first.

        Examples
        --------
        >>> request = Metadata()
        >>> Metadata(reply_to_message_id=request.message_id).answers(request)
        True
        >>> request.answers(request)
        False
        """
        return self._reply_to is request or self.reply_to_message_id == request.message_id

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name; ``Metadata(**fields)`` reads them back."""
        return {
            "run_id": self.run_id,
            "message_id": self.message_id,
            "src_node_id": self.src_node_id,
            "dst_node_id": self.dst_node_id,
            "reply_to_message_id": self.reply_to_message_id,
            "group_id": self.group_id,
            "created_at": self.created_at,
            "delivered_at": self.delivered_at,
            "ttl": self.ttl,
            "message_type": self.message_type,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # Draws the id first, so that it is the same on both sides.
        return type(self), tuple(self.as_dict().values())

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == other.as_dict() if isinstance(other, Metadata) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # the fields may change

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"Metadata({fields})"
