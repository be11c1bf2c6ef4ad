"""Events of messages and their answers."""

from __future__ import annotations

from heapq import heappop

from umbel.coordinator.bookkeeping import (
    dequeue,
    discard,
    enqueue,
    forget,
    refer,
    send_next,
    session_of,
    settle,
)
from umbel.coordinator.effects import Ack, Effect, NotifyRun, Reject
from umbel.coordinator.events import (
    Expired,
    MessagesPushed,
    MessagesReleased,
    NodeGivenUp,
    ReplyReceived,
)
from umbel.coordinator.runs import missing
from umbel.coordinator.state import (
    NODE_UNAVAILABLE,
    REPLY_MESSAGE_UNAVAILABLE,
    Answer,
    Failure,
    Message,
    Sent,
    State,
)


def messages_pushed(state: State, event: MessagesPushed) -> list[Effect]:
    """Send new messages on their way; tell again of answers to those already known."""
    refused = missing(state, event.run) or _unfit(state, event)
    if refused:
        return refused
    effects: list[Effect] = []
    touched: dict[int, None] = {}
    for message in event.messages:
        known = state.messages.get(message.id)
        if known is None:
            _take(state, message, effects)
            touched[message.node] = None
        elif known.answer is not None:
            effects.append(NotifyRun(event.run, message.id))
    for node in touched:
        send_next(state, node, event.at, effects)
    return effects


def _unfit(state: State, event: MessagesPushed) -> list[Effect]:
    new = 0
    for message in event.messages:
        known = state.messages.get(message.id)
        new += known is None
        if message.run != event.run:
            return [Reject("refused", f"message {message.id} is of run {message.run}")]
        if known is not None and (known.message.run, known.message.node) != (
            message.run,
            message.node,
        ):
            return [Reject("refused", f"message {message.id} is known, with another address")]
    if len(state.messages) + new > state.limits.messages_max:
        return [Reject("busy", f"{len(state.messages)} messages are known; release some")]
    return []


def _take(state: State, message: Message, effects: list[Effect]) -> None:
    sent = Sent(message)
    state.messages[message.id] = sent
    state.by_run[message.run][message.id] = None
    refer(state, message.body)
    node = state.nodes.get(message.node)
    if node is None or node.revoked:
        why = "there is no such node" if node is None else "it was revoked"
        settle(state, sent, _unavailable(message.node, why))
        effects.append(NotifyRun(message.run, message.id))
    else:
        state.members[message.run].add(message.node)
        enqueue(state, message)


def reply_received(state: State, event: ReplyReceived) -> list[Effect]:
    """Take the first answer to a message; acknowledge and drop any other."""
    node = state.nodes.get(event.node)
    if node is None or node.revoked:
        return [Reject("refused", f"node {event.node} may not answer")]
    sent = state.messages.get(event.message)
    if sent is not None and sent.message.node != event.node:
        return [Reject("refused", f"message {event.message} is not for node {event.node}")]
    effects: list[Effect] = []
    session = session_of(state, event.node)
    if session is not None:
        session.heard_at = event.at
        effects.append(Ack(session.id, event.message))
    if sent is None or sent.answer is not None:
        discard(state, event.answer.object, effects)
        return effects
    dequeue(state, sent.message, None, effects)
    settle(state, sent, event.answer)
    effects.append(NotifyRun(sent.message.run, event.message))
    send_next(state, event.node, event.at, effects)
    return effects


def messages_released(state: State, event: MessagesReleased) -> list[Effect]:
    """Drop messages with their answers."""
    if event.run not in state.runs:
        return [Reject("unknown", f"there is no run {event.run}")]
    known = [state.messages[m] for m in dict.fromkeys(event.messages) if m in state.messages]
    if any(sent.message.run != event.run for sent in known):
        return [Reject("refused", f"not all of the messages are of run {event.run}")]
    effects: list[Effect] = []
    for sent in known:
        forget(state, sent, "the answer is not wanted any more", effects)
    for node in dict.fromkeys(sent.message.node for sent in known):
        send_next(state, node, event.at, effects)
    return effects


def expired(state: State, event: Expired) -> list[Effect]:
    """Fail the messages whose time is over."""
    effects: list[Effect] = []
    touched: dict[int, None] = {}
    while state.expiries and state.expiries[0][0] <= event.at:
        expires_at, message = heappop(state.expiries)
        sent = state.messages.get(message)
        if sent is None or sent.answer is not None or sent.message.expires_at != expires_at:
            continue
        seconds = expires_at - sent.message.created_at
        reason = f"node {sent.message.node} sent no reply within {seconds:g} s"
        failure = Failure(REPLY_MESSAGE_UNAVAILABLE, "ReplyTimeout", reason)
        _fail(state, sent, Answer(failure=failure), effects)
        touched[sent.message.node] = None
    for node in touched:
        send_next(state, node, event.at, effects)
    return effects


def node_given_up(state: State, event: NodeGivenUp) -> list[Effect]:
    """Fail all that waits for a node."""
    effects: list[Effect] = []
    fail_all(state, event.node, "it was away for too long", effects)
    return effects


def fail_all(state: State, node: int, why: str, effects: list[Effect]) -> None:
    """Fail all that waits for a node, because of its state."""
    for message in list(state.waiting.get(node, ())):
        _fail(state, state.messages[message], _unavailable(node, why), effects)


def _unavailable(node: int, why: str) -> Answer:
    reason = f"node {node} is not available: {why}"
    return Answer(failure=Failure(NODE_UNAVAILABLE, "NodeLost", reason))


def _fail(state: State, sent: Sent, answer: Answer, effects: list[Effect]) -> None:
    dequeue(state, sent.message, "its time is over", effects)
    settle(state, sent, answer)
    effects.append(NotifyRun(sent.message.run, sent.message.id))
