"""Events of runs."""

from __future__ import annotations

from dataclasses import replace

from umbel.coordinator.bookkeeping import forget, refer, send_next, session_of, unrefer
from umbel.coordinator.effects import Effect, EraseRun, LaunchRun, Reject, RunOver, StopRun
from umbel.coordinator.events import (
    RunEnded,
    RunErased,
    RunRemoved,
    RunResumed,
    RunStarted,
    RunSubmitted,
)
from umbel.coordinator.state import Run, State


def missing(state: State, run: str) -> list[Effect]:
    """Refuse what names a run that is not there, or is over."""
    known = state.runs.get(run)
    if known is None:
        return [Reject("unknown", f"there is no run {run}")]
    return [] if known.active else [Reject("ended", f"run {run} has {known.status}")]


def run_submitted(state: State, event: RunSubmitted) -> list[Effect]:
    """Keep the run and have it launched."""
    if event.run in state.runs:
        return [Reject("exists", f"there is a run {event.run} already")]
    if event.run in state.removed:
        return [Reject("exists", f"a run {event.run} is being removed")]
    state.runs[event.run] = Run(
        id=event.run,
        owner=event.owner,
        spec=event.spec,
        objects=event.objects,
        submitted_at=event.at,
    )
    state.by_run[event.run] = {}
    state.members[event.run] = set()
    for thing in event.objects:
        refer(state, thing)
    return [LaunchRun(event.run)]


def run_started(state: State, event: RunStarted) -> list[Effect]:
    """Note that the server app is at work; after a restart, once more."""
    if refused := missing(state, event.run):
        return refused
    run = state.runs[event.run]
    state.runs[run.id] = replace(run, status="running", starts=run.starts + 1)
    return []


def run_ended(state: State, event: RunEnded) -> list[Effect]:
    """Drop the run's messages and tell its nodes."""
    if refused := missing(state, event.run):
        return refused
    run = state.runs[event.run]
    state.runs[run.id] = replace(run, status=event.status, detail=event.detail, ended_at=event.at)
    effects: list[Effect] = [StopRun(run.id)] if event.status == "stopped" else []
    freed = dict.fromkeys(state.messages[m].message.node for m in state.by_run[run.id])
    for message in list(state.by_run[run.id]):
        forget(state, state.messages[message], "the run is over", effects)
    _tell_members(state, run.id, event.status == "succeeded", effects)
    for node in freed:
        send_next(state, node, event.at, effects)
    return effects


def run_resumed(state: State, event: RunResumed) -> list[Effect]:
    """Have a run launched again that failed or was stopped."""
    run = state.runs.get(event.run)
    if run is None:
        return [Reject("unknown", f"there is no run {event.run}")]
    if run.active:
        return [Reject("exists", f"run {run.id} is going on")]
    if run.status == "succeeded":
        return [Reject("ended", f"run {run.id} has succeeded")]
    state.runs[run.id] = replace(run, status="submitted", detail="", ended_at=None)
    return [LaunchRun(run.id)]


def run_removed(state: State, event: RunRemoved) -> list[Effect]:
    """Forget a run that is over; its name is taken until the disk has forgotten it as well."""
    run = state.runs.get(event.run)
    if run is None:
        return [Reject("unknown", f"there is no run {event.run}")]
    if run.active:
        return [Reject("exists", f"run {run.id} is going on: stop it first")]
    effects: list[Effect] = []
    _tell_members(state, run.id, True, effects)
    for thing in run.objects:
        unrefer(state, thing, effects)
    del state.runs[run.id], state.by_run[run.id], state.members[run.id]
    state.removed.add(run.id)
    return [*effects, EraseRun(run.id)]


def run_erased(state: State, event: RunErased) -> list[Effect]:
    """Let the name of a removed run be used again."""
    if event.run not in state.removed:
        return [Reject("unknown", f"no run {event.run} is being removed")]
    state.removed.discard(event.run)
    return []


def _tell_members(state: State, run: str, final: bool, effects: list[Effect]) -> None:
    for node in sorted(state.members[run]):
        session = session_of(state, node)
        if session is not None:
            effects.append(RunOver(session.id, run, final))
