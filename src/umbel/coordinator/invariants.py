"""What holds after every step; asked for in tests."""

from __future__ import annotations

from collections import Counter

from umbel.coordinator.state import State


def check_state(state: State) -> None:
    """Assert what holds of a state between two steps.

    Raises
    ------
    AssertionError
        If the indexes contradict each other; the text says which.
    """
    _check_messages(state)
    _check_references(state)
    _check_sessions(state)


def _check_messages(state: State) -> None:
    waiting = [m for queue in state.waiting.values() for m in queue]
    unanswered = {m for m, sent in state.messages.items() if sent.answer is None}
    assert len(waiting) == len(set(waiting)), "a message waits for two nodes"
    assert set(waiting) == unanswered, "a message waits, or it has its answer"
    for node, queue in state.waiting.items():
        assert not (queue and state.nodes[node].revoked), f"something waits for revoked {node}"
        assert all(state.messages[m].message.node == node for m in queue), "in a wrong queue"
    for run, messages in state.by_run.items():
        assert state.runs[run].active or not messages, f"messages of run {run}, which is over"
        assert all(state.messages[m].message.run == run for m in messages), "of a wrong run"
    assert sum(map(len, state.by_run.values())) == len(state.messages), "a message of no run"
    assert not state.removed & state.runs.keys(), "a run is there, and is being removed"
    timed = {m for _, m in state.expiries}
    assert unanswered <= timed, "a message would wait for ever"
    for sent in state.messages.values():
        if sent.answer is not None:
            a = sent.answer
            given = [x for x in (a.object, a.content, a.failure) if x is not None]
            assert len(given) == 1, f"an answer is one thing: {a}"


def _check_references(state: State) -> None:
    count: Counter[str] = Counter()
    for run in state.runs.values():
        count.update(thing.hash for thing in run.objects)
    for sent in state.messages.values():
        answered = sent.answer.object if sent.answer else None
        count.update(thing.hash for thing in (sent.message.body, answered) if thing)
    assert dict(count) == dict(state.references), "references are not what refers"


def _check_sessions(state: State) -> None:
    live = state.live
    assert live.session_of == {s.node: s.id for s in live.sessions.values()}, "sessions of nodes"
    for session in live.sessions.values():
        assert not state.nodes[session.node].revoked, "a revoked node has a session"
        queue = state.waiting.get(session.node, {})
        assert set(session.sent) <= set(queue), "something in flight does not wait"
        left = set(queue) - set(session.sent)
        assert left <= set(session.unsent), "something is neither sent nor to be sent"
        assert not left or len(session.sent) >= session.capacity, "a node idles"
    assert not live.away_since.keys() & live.session_of.keys(), "both here and away"
    absences = {node for _, node in live.absences}
    for node in live.away_since:
        assert not state.waiting.get(node) or node in absences, "an absent node is waited for"
    silences = {number for _, number in live.silences}
    assert live.sessions.keys() <= silences, "a session could be silent for ever"
