"""The moves that several events share; each keeps all indexes of the state in step."""

from __future__ import annotations

from dataclasses import replace
from heapq import heapify, heappush

from umbel.coordinator.effects import CancelTask, DeleteObject, Effect, SendTask
from umbel.coordinator.state import Answer, Message, Object, Sent, Session, State

_SPARE_DEADLINES = 1000


def refer(state: State, thing: Object | None) -> None:
    """Count one more that refers to an object."""
    if thing is not None:
        state.references[thing.hash] += 1


def unrefer(state: State, thing: Object | None, effects: list[Effect]) -> None:
    """Count one less, and delete with the last."""
    if thing is not None:
        state.references[thing.hash] -= 1
        discard(state, thing, effects)


def discard(state: State, thing: Object | None, effects: list[Effect]) -> None:
    """Delete an object that nothing refers to."""
    if thing is not None and state.references[thing.hash] == 0:
        del state.references[thing.hash]
        effects.append(DeleteObject(thing.hash))


def session_of(state: State, node: int) -> Session | None:
    """Return the node's open session."""
    number = state.live.session_of.get(node)
    return None if number is None else state.live.sessions[number]


def enqueue(state: State, message: Message) -> None:
    """Have a new message wait for its node."""
    state.waiting.setdefault(message.node, {})[message.id] = None
    heappush(state.expiries, (message.expires_at, message.id))
    if len(state.expiries) > 2 * len(state.messages) + _SPARE_DEADLINES:
        _drop_settled(state)
    session = session_of(state, message.node)
    if session is None:
        watch(state, message.node)
    else:
        session.unsent.append(message.id)


def _drop_settled(state: State) -> None:
    """Drop the deadlines of messages that have their answer: they would lie there until then."""
    waiting = (state.messages[name].message for queue in state.waiting.values() for name in queue)
    state.expiries[:] = [(message.expires_at, message.id) for message in waiting]
    heapify(state.expiries)


def dequeue(state: State, message: Message, reason: str | None, effects: list[Effect]) -> None:
    """Have it wait no longer; with a reason, tell the node that works on it."""
    del state.waiting[message.node][message.id]
    session = session_of(state, message.node)
    if session is not None and message.id in session.sent:
        del session.sent[message.id]
        if reason is not None:
            effects.append(CancelTask(session.id, message.id, reason))


def settle(state: State, sent: Sent, answer: Answer) -> None:
    """Give a message its answer. It must have left the queue."""
    state.messages[sent.message.id] = replace(sent, answer=answer)
    refer(state, answer.object)


def forget(state: State, sent: Sent, reason: str, effects: list[Effect]) -> None:
    """Drop a message with its answer."""
    message = sent.message
    if sent.answer is None:
        dequeue(state, message, reason, effects)
    else:
        unrefer(state, sent.answer.object, effects)
    del state.messages[message.id]
    del state.by_run[message.run][message.id]
    unrefer(state, message.body, effects)


def send_next(state: State, node: int, at: float, effects: list[Effect]) -> None:
    """Send what waits for a node, in order, as far as its capacity goes."""
    session = session_of(state, node)
    if session is None:
        return
    waiting = state.waiting.get(node, {})
    while session.unsent and len(session.sent) < session.capacity:
        message = session.unsent.popleft()
        if message in waiting and message not in session.sent:
            session.sent[message] = at
            effects.append(SendTask(session.id, state.messages[message].message))


def watch(state: State, node: int) -> None:
    """See to it that an absent node for which something waits is given up in time."""
    live = state.live
    if node in live.away_since and node not in live.watched and state.waiting.get(node):
        live.watched.add(node)
        heappush(live.absences, (live.away_since[node] + state.limits.node_grace_s, node))


def part(state: State, session: Session, at: float) -> None:
    """Forget a session; what was sent on it waits again."""
    live = state.live
    del live.sessions[session.id]
    del live.session_of[session.node]
    live.away_since[session.node] = at
    watch(state, session.node)
