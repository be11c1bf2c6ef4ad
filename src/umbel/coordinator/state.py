"""What the coordinator knows: a durable part that the journal gives back, and a live part.

All of it is read by the shell as it likes and changed by `step` alone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RunStatus = Literal["submitted", "running", "succeeded", "failed", "stopped"]

# The numbers of `umbel.records.ErrorCode`, which this side of the house cannot import; a test
# holds them together.
REPLY_MESSAGE_UNAVAILABLE = 4
NODE_UNAVAILABLE = 5


@dataclass(frozen=True, slots=True)
class Object:
    """Bytes in the object store, named by their SHA-256 (hexadecimal)."""

    hash: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no content: a code of `umbel.records.ErrorCode`, a name, a sentence."""

    code: int
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a message: exactly one of an object, small content, or a failure.

    `codec` names the format of object or content; empty stands for the one that all can read.
    """

    object: Object | None = None
    content: bytes | None = None
    failure: Failure | None = None
    codec: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A task for a node. `body` is shared by many; `records` is small and its own.

    `codec` names the format of both; empty stands for the one that all can read.
    """

    id: str
    run: str
    node: int
    type: str
    group: str = ""
    created_at: float
    expires_at: float
    body: Object | None = None
    records: bytes = b""
    codec: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is known, with its answer once there is one."""

    message: Message
    answer: Answer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node that enrolled; ids count up from 0 in the order of enrolment."""

    id: int
    name: str
    fingerprint: str
    tags: Mapping[str, str]
    joined_at: float
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A join token, by the hash of its secret; `used_by` is the fingerprint of a key."""

    role: str
    name: str
    expires_at: float
    used_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run; `starts` counts how often its server app began, `members` got messages."""

    id: str
    owner: str
    spec: bytes
    objects: tuple[Object, ...]
    status: RunStatus = "submitted"
    detail: str = ""
    submitted_at: float
    ended_at: float | None = None
    starts: int = 0

    @property
    def active(self) -> bool:
        """Whether the run is not over."""
        return self.status in ("submitted", "running")


@dataclass(slots=True, kw_only=True)
class Session:
    """A node's open stream: what was sent on it and is not answered, and signs of life.

    `sent` maps a message id to when it was sent, or to None once the node holds it. `unsent`
    may name messages that have been answered or withdrawn since; they are skipped.
    """

    id: int
    node: int
    capacity: int
    heard_at: float
    sent: dict[str, float | None] = field(default_factory=dict)
    unsent: deque[str] = field(default_factory=deque)


@dataclass(slots=True)
class Live:
    """What ends with the process: sessions, and since when other nodes are away.

    `silences` and `absences` are heaps of when to look at a session or an absent node again;
    `watched` are the nodes in `absences`.
    """

    started_at: float | None = None
    sessions: dict[int, Session] = field(default_factory=dict)
    session_of: dict[int, int] = field(default_factory=dict)
    away_since: dict[int, float] = field(default_factory=dict)
    # Heaps are not searched: an entry that has lost its reason is dropped when it comes up.
    silences: list[tuple[float, int]] = field(default_factory=list)
    absences: list[tuple[float, int]] = field(default_factory=list)
    watched: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long is waited, in seconds, and how much is held.

    Parameters
    ----------
    node_grace_s : float
        How long messages wait for a node that is away, before they fail.
    silence_s : float
        How long a session may be silent before it is closed.
    accept_s : float
        How long a node may take to accept a task before its session is closed.
    messages_max : int
        How many messages may be known at once; more are refused as "busy".
    keep_runs_s : float or None
        How long a run is kept after its end; for ever without it.
    """

    node_grace_s: float = 300.0
    silence_s: float = 60.0
    accept_s: float = 60.0
    messages_max: int = 1_000_000
    keep_runs_s: float | None = None


@dataclass(slots=True)
class State:
    """The whole message plane.

    `nodes`, `tokens`, `runs` and `messages` are durable; `members` too: which nodes took part in
    a run; and `removed`: runs of which something may still lie on the disk. `references` (how
    many messages and runs refer to an object), `waiting` (unanswered messages by node, in order),
    `by_run` and the rest of the first part follow from them.

    Examples
    --------
    >>> from umbel.coordinator import NodeJoined, State, step
    >>> state = State()
    >>> step(state, NodeJoined(at=0.0, name="alice", fingerprint="ab"))
    []
    >>> state.node_of("ab").id
    0
    """

    limits: Limits = field(default_factory=Limits)
    nodes: dict[int, Node] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    messages: dict[str, Sent] = field(default_factory=dict)
    members: dict[str, set[int]] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    references: Counter[str] = field(default_factory=Counter)
    waiting: dict[int, dict[str, None]] = field(default_factory=dict)
    by_run: dict[str, dict[str, None]] = field(default_factory=dict)
    by_fingerprint: dict[str, int] = field(default_factory=dict)
    expiries: list[tuple[float, str]] = field(default_factory=list)
    live: Live = field(default_factory=Live)

    def node_of(self, fingerprint: str) -> Node | None:
        """Return the node with this key, or None."""
        node = self.by_fingerprint.get(fingerprint)
        return None if node is None else self.nodes[node]

    def connected(self) -> list[int]:
        """Return the ids of the nodes that have an open session, in order."""
        return sorted(self.live.session_of)

    def durable(self) -> tuple[object, ...]:
        """Return what a replay of the journal must give again; compares by value."""
        return self.nodes, self.tokens, self.runs, self.messages, self.members, self.removed
