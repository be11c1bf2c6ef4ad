"""Who may see what: questions to the state that change nothing."""

from __future__ import annotations

from umbel.coordinator.state import State


def may_pull(state: State, node: int, hash: str) -> bool:
    """Whether a node may read an object: a task that waits for it, or its run, refers to it."""
    known = state.nodes.get(node)
    if known is None or known.revoked:
        return False
    runs = set()
    for message in state.waiting.get(node, ()):
        sent = state.messages[message].message
        if sent.body is not None and sent.body.hash == hash:
            return True
        runs.add(sent.run)
    return any(thing.hash == hash for run in runs for thing in state.runs[run].objects)


def may_push(state: State, node: int) -> bool:
    """Whether a node may store objects: something waits for its answer."""
    known = state.nodes.get(node)
    return known is not None and not known.revoked and bool(state.waiting.get(node))


def may_read_run(state: State, user: str, run: str, admin: bool = False) -> bool:
    """Whether a user may see and steer a run: its owner and admins may."""
    known = state.runs.get(run)
    return known is not None and (admin or known.owner == user)
