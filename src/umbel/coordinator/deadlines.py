"""What falls due with time: asked for by the shell, since the coordinator has no clock.

Deadlines lie in heaps, so that nothing is searched. An entry that has lost its reason (answered,
connected again, heard of since) stays until it comes up, and is then dropped or put off.
"""

from __future__ import annotations

from heapq import heappop, heappush

from umbel.coordinator.enrolling import is_outdated
from umbel.coordinator.events import (
    Event,
    Expired,
    NodeGivenUp,
    RunRemoved,
    SessionSilent,
    TokensExpired,
)
from umbel.coordinator.state import Session, State


def next_deadline(state: State) -> float | None:
    """Return when `due` will next have something, or None.

    Later events may bring this forward: ask again after each batch of steps.
    """
    _tidy(state)
    heaps = (state.expiries, state.live.silences, state.live.absences)
    return min((heap[0][0] for heap in heaps if heap), default=None)


def due(state: State, at: float) -> list[Event]:
    """Return the events that time has brought by `at`: hand each to `step` at once.

    Nothing that `step` or `durable` could tell apart is changed here.
    """
    events: list[Event] = []
    _tidy(state)
    if state.expiries and state.expiries[0][0] <= at:
        events.append(Expired(at=at))
    live = state.live
    events.extend(SessionSilent(at=at, session=s) for s in _ripe(state, live.silences, at))
    events.extend(NodeGivenUp(at=at, node=n) for n in _ripe(state, live.absences, at))
    return events


def outdated(state: State, at: float) -> list[Event]:
    """Return the events by which the state forgets what has had its time: hand each to `step`.

    It looks at all runs and tokens: a question for now and then, not for each step.
    """
    events: list[Event] = []
    if any(is_outdated(token, at) for token in state.tokens.values()):
        events.append(TokensExpired(at=at))
    keep_s = state.limits.keep_runs_s
    if keep_s is not None:
        for run in state.runs.values():
            if run.ended_at is not None and run.ended_at + keep_s <= at:
                events.append(RunRemoved(at=at, run=run.id))
    return events


def _ripe(state: State, heap: list[tuple[float, int]], at: float) -> list[int]:
    ripe = []
    while heap and heap[0][0] <= at:
        ripe.append(heappop(heap))
        _tidy(state)
    for entry in ripe:  # gone for good only when `step` has taken away its reason
        heappush(heap, entry)
    return [number for _, number in ripe]


def _tidy(state: State) -> None:
    """Bring the true next deadline to the top of each heap."""
    while state.expiries:
        sent = state.messages.get(state.expiries[0][1])
        if sent and sent.answer is None and sent.message.expires_at == state.expiries[0][0]:
            break
        heappop(state.expiries)
    live, limits = state.live, state.limits
    while live.silences:
        number = live.silences[0][1]
        session = live.sessions.get(number)
        deadline = None if session is None else _patience_ends(state, session)
        if not _put_off(live.silences, deadline):
            break
    while live.absences:
        node = live.absences[0][1]
        since = live.away_since.get(node)
        if since is None or not state.waiting.get(node):
            live.watched.discard(node)
            since = None
        if not _put_off(live.absences, None if since is None else since + limits.node_grace_s):
            break


def _put_off(heap: list[tuple[float, int]], deadline: float | None) -> bool:
    """Drop or move the top of a heap; False if it stands where it should."""
    when, number = heap[0]
    if deadline is not None and deadline <= when:
        return False
    heappop(heap)
    if deadline is not None:
        heappush(heap, (deadline, number))
    return True


def _patience_ends(state: State, session: Session) -> float:
    # A task that is not accepted is noticed when silence is looked for: at most that much later.
    unaccepted = (at for at in session.sent.values() if at is not None)
    accept_by = min(unaccepted, default=float("inf")) + state.limits.accept_s
    return min(session.heard_at + state.limits.silence_s, accept_by)
