"""What a run shows while it runs: a line a round, and on a terminal a live one below them."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from umbel.cli.history import PHASES, RunHistory
from umbel.cli.tables import headline_metrics, metrics_text

if TYPE_CHECKING:
    from rich.console import Console

_FAILURES_PER_ROUND = 5


def failure_text(failure: Mapping[str, Any]) -> str:
    """Return a failure on one line: where, what, why."""
    return (
        f"round {failure['round']} {failure['phase']}: node {failure['node_id']} failed: "
        f"{failure['kind']}: {failure['message']}"
    )


def _waiting_text(data: Mapping[str, Any]) -> str:
    return (
        f"waiting for nodes: {data['connected']} of {data['wanted']} are connected; "
        f"the run fails if they do not come within {data['timeout_s']:g} s"
    )


class PlainDisplay:
    """One line for each round, and failures as they come; for files, pipes, quiet runs.

    Parameters
    ----------
    console : rich.console.Console
        Where to print.
    history : RunHistory
        The run so far; whoever calls ``update`` has applied the event to it.
    show_rounds : bool
        False prints the failures alone.
    """

    def __init__(self, console: Console, history: RunHistory, *, show_rounds: bool = True) -> None:
        self._console = console
        self._history = history
        self._show_rounds = show_rounds
        self._failures_in_round = 0
        self._hidden_failures = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._count_hidden_failures()

    def update(self, event: str, data: Mapping[str, Any]) -> None:
        """Show what an event changes."""
        if event == "round_started":
            self._count_hidden_failures()
            self._failures_in_round = 0
        elif event == "failure":
            self._failures_in_round += 1
            if self._failures_in_round <= _FAILURES_PER_ROUND:
                self._print(Text(failure_text(data), style="red"))
            else:
                self._hidden_failures += 1
        elif event == "round_finished":
            self._count_hidden_failures()
            if self._show_rounds:
                self._print(self._round_line(data))
        elif event == "privacy_budget_exhausted" and self._show_rounds:
            self._print(Text(f"stopped {self._history.stopped}", style="yellow"))
        elif event == "waiting":
            self._print(Text(_waiting_text(data), style="yellow"))
        elif event == "server_evaluated" and data["round"] == 0 and self._show_rounds:
            self._print(Text(f"initial model  {metrics_text(data['metrics'])}"))

    def _round_line(self, data: Mapping[str, Any]) -> Text:
        server_round = data["round"]
        parts = [f"round {server_round}/{data['num_rounds']}"]
        for phase in PHASES:
            metrics = self._history.metrics.get(phase, {}).get(server_round)
            if metrics and (text := metrics_text(metrics)):
                parts.append(f"{phase} {text}")
        if self._failures_in_round:
            parts.append(f"{self._failures_in_round} failed")
        parts.append(f"{data['seconds']:.2f} s")
        return Text(" | ".join(parts))

    def _count_hidden_failures(self) -> None:
        if self._hidden_failures:
            self._print(Text(f"... and {self._hidden_failures} more failed", style="red"))
            self._hidden_failures = 0

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


class _TimeLeft(TimeRemainingColumn):
    """``1:23 left``, and nothing while it is not known."""

    def render(self, task: Task) -> Text:
        time = super().render(task)
        return time.append(" left") if time.plain.strip() else time


class LiveDisplay(PlainDisplay):
    """Below the lines, one that changes: round, phase, cohort, newest metrics, time left."""

    def __init__(self, console: Console, history: RunHistory) -> None:
        super().__init__(console, history)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[metrics]}", markup=False),
            _TimeLeft(compact=True),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None, metrics="")
        self._round = ""
        self._rounds_done = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._progress.stop()

    def update(self, event: str, data: Mapping[str, Any]) -> None:
        """Show what an event changes."""
        super().update(event, data)
        if event == "round_started":
            self._rounds_done = data["round"] - 1
            self._round = f"round {data['round']}/{data['num_rounds']}"
            self._progress.update(self._task, total=data["num_rounds"])
            self._advance(self._round, 0.0)
        elif event == "phase_started" and data["round"] > 0:
            self._advance(f"{self._round}  {data['phase']} 0/{data['cohort']}", None)
        elif event == "progress" and data["round"] == 0:
            self._advance(f"messages {data['done']}/{data['total']}", None)
        elif event == "progress":
            # Training fills the first half of a round on the bar, evaluation the second.
            share = data["done"] / max(data["total"], 1) / 2
            start = 0.5 if data["phase"] == "evaluate" else 0.0
            text = f"{self._round}  {data['phase']} {data['done']}/{data['total']}"
            self._advance(text, start + share)
        elif event == "round_finished":
            self._advance(self._round, 1.0)

    def _advance(self, description: str, round_share: float | None) -> None:
        changes: dict[str, Any] = {"description": description}
        if round_share is not None:
            changes["completed"] = self._rounds_done + round_share
        metrics = metrics_text(headline_metrics(self._history), limit=2)
        self._progress.update(self._task, metrics=metrics, **changes)
