"""`step`: the only function that changes the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from umbel.base import InvalidTransition
from umbel.coordinator import enrolling, messages, runs, sessions
from umbel.coordinator.effects import Effect, Reject
from umbel.coordinator.events import (
    DurableEvent,
    Event,
    Expired,
    Heartbeat,
    MessagesPushed,
    MessagesReleased,
    NodeConnected,
    NodeDisconnected,
    NodeGivenUp,
    NodeJoined,
    NodeRevoked,
    ReplyReceived,
    RunEnded,
    RunErased,
    RunRemoved,
    RunResumed,
    RunStarted,
    RunSubmitted,
    ServerStarted,
    SessionSilent,
    TaskAccepted,
    TokenCreated,
    TokensExpired,
    TokenUsed,
)
from umbel.coordinator.state import State

_HANDLERS: dict[type, Callable[[State, Any], list[Effect]]] = {
    TokenCreated: enrolling.token_created,
    TokenUsed: enrolling.token_used,
    TokensExpired: enrolling.tokens_expired,
    NodeJoined: enrolling.node_joined,
    NodeRevoked: enrolling.node_revoked,
    RunSubmitted: runs.run_submitted,
    RunStarted: runs.run_started,
    RunEnded: runs.run_ended,
    RunResumed: runs.run_resumed,
    RunRemoved: runs.run_removed,
    RunErased: runs.run_erased,
    MessagesPushed: messages.messages_pushed,
    ReplyReceived: messages.reply_received,
    MessagesReleased: messages.messages_released,
    Expired: messages.expired,
    NodeGivenUp: messages.node_given_up,
    ServerStarted: sessions.server_started,
    NodeConnected: sessions.node_connected,
    NodeDisconnected: sessions.node_disconnected,
    SessionSilent: sessions.session_silent,
    Heartbeat: sessions.heartbeat,
    TaskAccepted: sessions.task_accepted,
}
_DURABLE = frozenset(get_args(DurableEvent))


def step(state: State, event: Event) -> list[Effect]:
    """Change the state by what happened and return what is to be done about it, in order.

    The shell steps first; an event for which `must_journal` holds then goes to the journal, and
    only when it is safe there are the effects carried out.

    Raises
    ------
    InvalidTransition
        If the event cannot happen in this state: a defect of the shell, not of a peer.
    """
    handler = _HANDLERS.get(type(event))
    if handler is None:
        raise InvalidTransition("the coordinator knows no such event", event=type(event).__name__)
    return handler(state, event)


def must_journal(event: Event, effects: list[Effect]) -> bool:
    """Whether an event is durable and was not refused by `step`."""
    refused = bool(effects) and isinstance(effects[0], Reject)
    return type(event) in _DURABLE and not refused
