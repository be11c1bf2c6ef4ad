"""A run: its identity, its seed, its log, and who watches it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umbel.base import SYSTEM_CLOCK, Seeds, new_run_id
from umbel.records import Error, MetricRecord
from umbel.serverapp.runlog import RunLog

if TYPE_CHECKING:
    from umbel.serverapp.result import Result


@dataclass(frozen=True)
class RunEvent:
    """Something that happened in a run, as observers get it.

    Attributes
    ----------
    name : str
        For example ``"round_finished"`` or ``"progress"``; ``docs/run-folder.md`` lists them.
    data : dict
        The facts, as JSON takes them.
    """

    name: str
    data: dict[str, Any]


Observer = Callable[[RunEvent], None]


@dataclass(frozen=True)
class Failure:
    """A client that did not give a usable reply.

    Attributes
    ----------
    server_round : int
        The round, from 1; 0 outside of rounds.
    phase : str
        The kind of message: ``"train"``, ``"evaluate"`` or ``"query"``.
    node_id : int
        The node.
    kind : str
        The type of the exception, or the name of the signal that ended its process.
    message : str
        What went wrong.
    traceback : str or None
        Where in the client's code; only in a simulation, since it may show data.
    """

    server_round: int
    phase: str
    node_id: int
    kind: str
    message: str
    traceback: str | None = None


@dataclass
class Run:
    """One execution of a server app.

    Attributes
    ----------
    run_id : str
        Its name.
    seeds : Seeds
        The root of all its random streams.
    run_config : dict
        The app's settings.
    folder : Path or None
        Where the log and the metrics go; ``None`` keeps them in memory.
    observers : sequence of callables
        Called with every :class:`RunEvent`.
    server_round, attempt, phase : int, int, str
        Where the run is: the round, how often this phase was repeated, and the kind of message.
    failures : list of Failure
        Every client that gave no usable reply; the grid adds to it as they become known.
    result : Result or None
        What the last strategy that was started has come to.
    """

    run_id: str = field(default_factory=lambda: new_run_id(SYSTEM_CLOCK.now()))
    seeds: Seeds = field(default_factory=Seeds)
    run_config: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    observers: Sequence[Observer] = ()
    server_round: int = 0
    attempt: int = 0
    phase: str = ""
    failures: list[Failure] = field(default_factory=list)
    result: Result | None = None

    def __post_init__(self) -> None:
        self.log = RunLog(self.folder / "log.jsonl" if self.folder else None)

    def close(self) -> None:
        """Close the log."""
        self.log.close()

    def emit(self, event: str, **data: Any) -> None:
        """Append an event to the log and tell the observers."""
        entry = self.log.append(event, **data)
        self.notify(event, **entry.data)

    def notify(self, event: str, **data: Any) -> None:
        """Tell the observers about something too fleeting for the log."""
        for observer in self.observers:
            observer(RunEvent(event, data))

    def begin_phase(self, phase: str, nodes: Sequence[int]) -> None:
        """Say that messages of one kind are about to go to these nodes."""
        self.phase = phase
        nodes = list(nodes)
        self.emit(
            "phase_started", round=self.server_round, phase=phase, cohort=len(nodes), nodes=nodes
        )

    def progress(self, done: int, total: int, failed: int) -> None:
        """Say how many of a cohort's replies are there."""
        self.notify(
            "progress",
            round=self.server_round,
            phase=self.phase,
            done=done,
            total=total,
            failed=failed,
        )

    def fail(self, node_id: int, error: Error, phase: str | None = None) -> None:
        """Record that a node gave no usable reply."""
        failure = Failure(
            self.server_round,
            self.phase if phase is None else phase,
            node_id,
            error.kind or "Error",
            error.reason or "",
            error.traceback,
        )
        self.failures.append(failure)
        self.emit(
            "failure",
            round=failure.server_round,
            phase=failure.phase,
            node_id=node_id,
            kind=failure.kind,
            message=failure.message,
        )

    def record_metrics(self, phase: str, metrics: MetricRecord) -> None:
        """Append a line to ``metrics.jsonl``."""
        if self.folder is None:
            return
        line = {"round": self.server_round, "phase": phase, "metrics": plain(metrics)}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def plain(metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return metrics as a plain dictionary, for JSON."""
    return dict(metrics) if metrics is not None else {}
