"""Events of connections: none of them is in the journal."""

from __future__ import annotations

from heapq import heappush

from umbel.base import InvalidTransition
from umbel.coordinator.bookkeeping import part, send_next, session_of, watch
from umbel.coordinator.effects import (
    Ack,
    CancelTask,
    CloseSession,
    Effect,
    EraseRun,
    LaunchRun,
    RunOver,
)
from umbel.coordinator.events import (
    Heartbeat,
    NodeConnected,
    NodeDisconnected,
    ServerStarted,
    SessionSilent,
    TaskAccepted,
)
from umbel.coordinator.state import Session, State


def server_started(state: State, event: ServerStarted) -> list[Effect]:
    """Go on with what was going on; nodes get their time to come back from now on."""
    live = state.live
    if live.started_at is not None:
        raise InvalidTransition("the server starts once a process", event="ServerStarted")
    live.started_at = event.at
    for node in state.nodes.values():
        if not node.revoked and node.id not in live.session_of:
            live.away_since[node.id] = event.at
            watch(state, node.id)
    erase: list[Effect] = [EraseRun(run) for run in sorted(state.removed)]
    return erase + [LaunchRun(run.id) for run in state.runs.values() if run.active]


def node_connected(state: State, event: NodeConnected) -> list[Effect]:
    """Send the node what it does not hold, and have it forget what is not wanted."""
    live = state.live
    if event.session in live.sessions:
        raise InvalidTransition("a session's number is used once", session=event.session)
    node = state.nodes.get(event.node)
    if node is None or node.revoked:
        why = "this node is not known here" if node is None else "this node was revoked"
        return [CloseSession(event.session, why)]
    effects: list[Effect] = []
    former = session_of(state, node.id)
    if former is not None:
        part(state, former, event.at)
        effects.append(CloseSession(former.id, "the node opened another session"))
    away_since = live.away_since.pop(node.id, None)
    session = Session(
        id=event.session, node=node.id, capacity=max(1, event.capacity), heard_at=event.at
    )
    live.sessions[session.id] = session
    live.session_of[node.id] = session.id
    heappush(live.silences, (event.at + state.limits.silence_s, session.id))
    _tell_of_ended_runs(state, session, away_since, effects)
    _settle_held(state, session, event.held, effects)
    session.unsent.extend(m for m in state.waiting.get(node.id, ()) if m not in session.sent)
    send_next(state, node.id, event.at, effects)
    return effects


def _tell_of_ended_runs(
    state: State, session: Session, away_since: float | None, effects: list[Effect]
) -> None:
    # A node that was here when the server started has been told of no run before that.
    knows = away_since is not None and away_since != state.live.started_at
    for run in state.runs.values():
        if run.ended_at is None or session.node not in state.members[run.id]:
            continue
        if not knows or away_since is None or run.ended_at >= away_since:
            effects.append(RunOver(session.id, run.id, final=run.status == "succeeded"))


def _settle_held(
    state: State, session: Session, held: tuple[str, ...], effects: list[Effect]
) -> None:
    waiting = state.waiting.get(session.node, {})
    for message in held:
        sent = state.messages.get(message)
        if message in waiting:
            session.sent[message] = None
        elif sent is None or sent.answer is None or sent.answer.failure is not None:
            effects.append(CancelTask(session.id, message, "the answer is not wanted any more"))
        else:
            effects.append(Ack(session.id, message))


def node_disconnected(state: State, event: NodeDisconnected) -> list[Effect]:
    """Forget the session, unless that was done before."""
    session = state.live.sessions.get(event.session)
    if session is not None:
        part(state, session, event.at)
    return []


def session_silent(state: State, event: SessionSilent) -> list[Effect]:
    """Close the session; the node, if it lives, opens another."""
    session = state.live.sessions.get(event.session)
    if session is None:
        return []
    part(state, session, event.at)
    silent_s = event.at - session.heard_at
    late = silent_s < state.limits.silence_s
    why = "a task was not accepted in time" if late else f"nothing was heard for {silent_s:g} s"
    return [CloseSession(session.id, why)]


def heartbeat(state: State, event: Heartbeat) -> list[Effect]:
    """Note the sign of life."""
    session = state.live.sessions.get(event.session)
    if session is not None:
        session.heard_at = event.at
    return []


def task_accepted(state: State, event: TaskAccepted) -> list[Effect]:
    """Note that the node holds the task."""
    session = state.live.sessions.get(event.session)
    if session is not None:
        session.heard_at = event.at
        if event.message in session.sent:
            session.sent[event.message] = None
    return []
