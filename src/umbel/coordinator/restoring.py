"""The state again, from what the journal holds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from heapq import heapify

from umbel.base import JournalCorrupt
from umbel.coordinator.bookkeeping import refer
from umbel.coordinator.coding import event_from_json, parts_from_json
from umbel.coordinator.effects import Reject
from umbel.coordinator.machine import step
from umbel.coordinator.state import Limits, State


def restore(
    snapshot: bytes | None, entries: Iterable[tuple[int, bytes]], limits: Limits | None = None
) -> State:
    """Return the state that a journal tells of; `ServerStarted` is the next event.

    Parameters
    ----------
    snapshot : bytes or None
        What `state_to_json` gave.
    entries : iterable of (int, bytes)
        The events after it, each with its number: `journal.read(after)`.
    limits : Limits, optional
        Those from now on. What was accepted under others stands.

    Raises
    ------
    JournalCorrupt
        If something cannot be read, or could not have happened.

    Examples
    --------
    >>> entry = b'{"event":"NodeJoined","at":1.5,"name":"alice","fingerprint":"ab"}'
    >>> restore(None, [(1, entry)]).nodes[0].name
    'alice'
    """
    state = State(limits=Limits(messages_max=sys.maxsize))
    if snapshot is not None:
        _fill(state, snapshot)
    for number, entry in entries:
        try:
            event = event_from_json(entry)
        except JournalCorrupt as error:
            error.context["number"] = number
            raise
        match step(state, event):
            case [Reject(code, reason)]:
                name = type(event).__name__
                why = f"{name} cannot have happened there: {reason}"
                raise JournalCorrupt(why, number=number, code=code)
    state.limits = limits or Limits()
    return state


def _fill(state: State, snapshot: bytes) -> None:
    parts = parts_from_json(snapshot)
    for node in parts["nodes"]:
        state.nodes[node.id] = node
        state.by_fingerprint[node.fingerprint] = node.id
    state.tokens.update(parts["tokens"])
    for run in parts["runs"]:
        state.runs[run.id] = run
        state.by_run[run.id] = {}
        state.members[run.id] = set(parts["members"].get(run.id, ()))
        for thing in run.objects:
            refer(state, thing)
    for sent in parts["messages"]:
        message = sent.message
        if message.run not in state.runs:
            raise JournalCorrupt(f"message {message.id} in the snapshot is of no run")
        state.messages[message.id] = sent
        state.by_run[message.run][message.id] = None
        refer(state, message.body)
        if sent.answer is None:
            state.waiting.setdefault(message.node, {})[message.id] = None
            state.expiries.append((message.expires_at, message.id))
        else:
            refer(state, sent.answer.object)
    state.removed.update(parts["removed"])
    heapify(state.expiries)
