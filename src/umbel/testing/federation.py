"""Runs a world: the real coordinator in a virtual network, one seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import inf

from umbel.base import Seeds
from umbel.coordinator import (
    NodeJoined,
    RunRemoved,
    RunSubmitted,
    ServerStarted,
    restore,
    state_to_json,
)
from umbel.testing.network import Fault, Loop, Network
from umbel.testing.players import RUN, NodeModel, Server, answer_of
from umbel.testing.worlds import World


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a world."""

    effects_seen: frozenset[str]
    failures: Counter[str]
    crashes: int
    seconds: float


def run_world(world: World, seed: int) -> Outcome:
    """Play a world to its end and assert what must hold.

    Each message is counted once, with the right answer or with a failure; the state is sound
    after each event; each prefix of the journal gives the state that it had; all ends in time.

    Raises
    ------
    AssertionError
        If something does not hold.
    """
    loop = Loop(Seeds(seed).child("world"))
    server = Server(loop, Network(loop, world.faults, world.nodes), world)
    sessions = count()
    server.nodes.extend(NodeModel(server, n, world, sessions) for n in range(world.nodes))
    for n in range(world.nodes):
        server.handle(NodeJoined(at=0.0, name=f"node-{n}", fingerprint=f"key-{n}"))
    server.handle(RunSubmitted(at=0.0, run=RUN, owner="alice", spec=b"{}"))
    server.app.crash()  # launched by what follows, as after a restart
    server.handle(ServerStarted(at=0.0))
    for node in server.nodes:
        node.start()
    crashes = sum(_plan_crashes(server, fault) for fault in world.faults if fault.kind == "crash")
    loop.run(lambda: server.up and not server.state.runs[RUN].active, world.ends_within_s)
    _check_counts(server, world)
    _remove(server)
    _check_replay(server)
    failures = Counter(
        answer.failure.kind for answer in server.app.answers.values() if answer.failure
    )
    assert not (world.all_answered and failures), f"messages failed: {failures}"
    return Outcome(frozenset(server.effects_seen), failures, crashes, loop.now)


def _plan_crashes(server: Server, fault: Fault) -> int:
    chance, loop = server.loop.chance, server.loop
    for _ in range(fault.times):
        when, down_s = chance.uniform(0, fault.within_s), chance.uniform(0, fault.up_to_s)
        match fault.who:
            case "server":
                loop.at(when, partial(server.crash, down_s))
            case "step":
                server.dies_in.append(chance.randrange(1, 60))
            case "app":
                loop.at(when, partial(server.crash_app, down_s))
            case "node":
                loop.at(when, partial(chance.choice(server.nodes).crash, down_s))
            case who:
                raise ValueError(f"a world cannot crash {who!r}")
    return fault.times


def _check_counts(server: Server, world: World) -> None:
    app, state = server.app, server.state
    assert state.runs[RUN].status == "succeeded"
    assert app.counted.total() == world.rounds * world.cohort * world.tasks, "a message is lost"
    assert set(app.counted.values()) <= {1}, "a message is counted twice"
    for message, answer in app.answers.items():
        assert answer.failure or answer == answer_of(message), "a wrong answer"
    assert not state.messages, "a run that is over holds messages"
    assert not state.references, "a run that is over holds objects"


def _remove(server: Server) -> None:
    """Remove the run, with the server dying at each step of that, and assert that it is gone."""
    # Before the entry, which is lost; after it, before the effects; then before what ends it.
    server.dies_in = [1, 3, 4]
    for _ in range(2):
        assert RUN in server.state.runs
        server.handle(RunRemoved(at=server.loop.now, run=RUN))
        server.loop.run(lambda: server.up, inf)
    server.loop.run(lambda: server.up and not server.state.removed, inf)
    assert RUN not in server.state.runs
    assert not server.dies_in
    assert not server.folders, "something of a removed run is left"


def _check_replay(server: Server) -> None:
    """Restore a snapshot with each number of events after it: the state that was there."""
    first, snapshot = server.journal.latest_snapshot() or (0, None)
    entries = list(server.journal.read(first))
    assert first + len(entries) == len(server.history) - 1, "an event is not in the journal"
    for length in range(len(entries) + 1):
        state = restore(snapshot, entries[:length])
        assert state_to_json(state) == server.history[first + length], "replay differs"
