"""What can happen to the message plane: the only way its state changes.

Every event says when it happened (`at`, seconds since the Unix epoch), because the coordinator has
no clock. Those of `DurableEvent` go into the journal; replaying them gives the durable state.
Those of `VolatileEvent` tell of connections, which do not outlive the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from umbel.coordinator.state import Answer, Message, Object

EndStatus = Literal["succeeded", "failed", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCreated:
    """An admin made a join token; only its hash is known here."""

    at: float
    token: str
    role: str
    name: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsed:
    """A user enrolled with a token. The same key may use it again, another may not."""

    at: float
    token: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensExpired:
    """Tokens that expired so long ago that no clock lets them be used again are forgotten."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJoined:
    """A node enrolled, with a token if the server asks for one.

    The fingerprint is the SHA-256 of its public key (without TLS: of its secret). A key that is
    known is the same node again: look it up with `State.node_of`.
    """

    at: float
    name: str
    fingerprint: str
    tags: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRevoked:
    """An admin shut a node out for good."""

    at: float
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSubmitted:
    """A user asked for a run.

    `spec` is what the shell needs to launch it and to tell nodes about it: opaque bytes.
    `objects` are kept as long as the run is known; nodes with a task of the run may pull them.
    """

    at: float
    run: str
    owner: str
    spec: bytes
    objects: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """The server app of a run began, or began again after a restart."""

    at: float
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """A run is over: its app said so, its app could not go on, or a user stopped it."""

    at: float
    run: str
    status: EndStatus
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed:
    """A user asked to go on with a run that failed or was stopped."""

    at: float
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRemoved:
    """A run that is over is to be forgotten, with all that it left behind."""

    at: float
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunErased:
    """Nothing that a removed run left behind lies on the disk any more."""

    at: float
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesPushed:
    """A server app sends messages; those already known by their id are not sent again."""

    at: float
    run: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyReceived:
    """A node answered; the answer's object, if it has one, is in the store."""

    at: float
    node: int
    message: str
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesReleased:
    """A server app needs these messages and their answers no more."""

    at: float
    run: str
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """Messages with `expires_at <= at` fail. Comes from `due`."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGivenUp:
    """A node was away for longer than is waited for: what waits for it fails. From `due`."""

    at: float
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStarted:
    """The journal has been replayed and the server is at work: runs are launched again."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConnected:
    """A node opened a stream, under a number that no other session of this process had.

    `held` are the messages that it accepted and has no acknowledgement for.
    """

    at: float
    node: int
    session: int
    capacity: int = 1
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDisconnected:
    """A stream ended."""

    at: float
    session: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSilent:
    """A stream shows no life, or a task on it was never accepted. Comes from `due`."""

    at: float
    session: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A node shows that it is there; anything else that it sends shows it as well."""

    at: float
    session: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAccepted:
    """A node holds a task on its own disk and will answer it."""

    at: float
    session: int
    message: str


DurableEvent = (
    TokenCreated
    | TokenUsed
    | TokensExpired
    | NodeJoined
    | NodeRevoked
    | RunSubmitted
    | RunStarted
    | RunEnded
    | RunResumed
    | RunRemoved
    | RunErased
    | MessagesPushed
    | ReplyReceived
    | MessagesReleased
    | Expired
    | NodeGivenUp
)
VolatileEvent = (
    ServerStarted | NodeConnected | NodeDisconnected | SessionSilent | Heartbeat | TaskAccepted
)
Event = DurableEvent | VolatileEvent
