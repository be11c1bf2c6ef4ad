"""What the shell is to do after a step, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from umbel.coordinator.state import Message

RejectCode = Literal[
    "busy",  # too much is waiting; try again later
    "ended",  # the run is over, or is not of a kind that can go on
    "exists",  # the name is taken
    "expired",  # the token's time is over
    "refused",  # this peer may not do that
    "unknown",  # no such run, node, session or token
    "used",  # the token was used by another key
]


@dataclass(frozen=True, slots=True)
class SendTask:
    """Send a message to the node, with what `State.runs[message.run]` says of its run."""

    session: int
    message: Message


@dataclass(frozen=True, slots=True)
class Ack:
    """Tell the node that its reply is safe, or not needed: it may forget the message."""

    session: int
    message: str


@dataclass(frozen=True, slots=True)
class CancelTask:
    """Tell the node that the answer is not wanted any more."""

    session: int
    message: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunOver:
    """Tell the node that a run is over; one that is not `final` may be resumed."""

    session: int
    run: str
    final: bool


@dataclass(frozen=True, slots=True)
class NotifyRun:
    """Tell the run's server app that `State.messages[message].answer` is there."""

    run: str
    message: str


@dataclass(frozen=True, slots=True)
class LaunchRun:
    """Start the run's server app."""

    run: str


@dataclass(frozen=True, slots=True)
class StopRun:
    """End the run's server app, if it is still there."""

    run: str


@dataclass(frozen=True, slots=True)
class EraseRun:
    """Delete what a removed run left on the disk, and say `RunErased` when that is done."""

    run: str


@dataclass(frozen=True, slots=True)
class DeleteObject:
    """Nothing refers to this object any more.

    Someone may be about to refer to it again: delete it with `ObjectStore.delete(hash, idle_s)`,
    and only if `State.references` still has no such key.
    """

    hash: str


@dataclass(frozen=True, slots=True)
class CloseSession:
    """End a stream and tell the node why; the state has forgotten the session already."""

    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """The event was refused and changed nothing: it is not journalled. Always alone."""

    code: RejectCode
    reason: str


Effect = (
    SendTask
    | Ack
    | CancelTask
    | RunOver
    | NotifyRun
    | LaunchRun
    | StopRun
    | EraseRun
    | DeleteObject
    | CloseSession
    | Reject
)
