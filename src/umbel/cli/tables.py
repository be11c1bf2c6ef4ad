"""Metrics and histories as text and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from umbel.cli.history import PHASES, RunHistory

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_FIRST = ("loss", "accuracy")
# The weight of a reply, not something that was measured.
_HIDDEN = "num-examples"

# The width of what is written to a file or a pipe, where lines need not fit a screen.
_WIDTH_ELSEWHERE = 120

STATUS_STYLES = {"succeeded": "green", "failed": "red", "interrupted": "yellow"}


def console(*, stderr: bool = False) -> Console:
    """Return a console that is as wide as the terminal, or wide enough where there is none."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, _WIDTH_ELSEWHERE)
    return made


def scalar_names(metrics: Mapping[str, Any]) -> list[str]:
    """Return the names of the single numbers, loss and accuracy first."""
    names = [
        name
        for name, value in metrics.items()
        if isinstance(value, int | float) and name != _HIDDEN
    ]
    return sorted(names, key=_rank)


def _rank(name: str) -> int:
    """Put the loss first, then the accuracy, then the others as they come."""
    return next((place for place, last in enumerate(_FIRST) if name.endswith(last)), len(_FIRST))


def metrics_text(metrics: Mapping[str, Any], limit: int = 3) -> str:
    """Return the first few metrics on one line: ``loss 0.31  accuracy 0.94``."""
    names = scalar_names(metrics)[:limit]
    return "  ".join(f"{name} {number(metrics[name])}" for name in names)


def number(value: float | None) -> str:
    """Return a number with four digits that count; nothing for None."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def app_name(history: RunHistory) -> str:
    """Return the name of the app that ran; of ``"package.module:attribute"`` the package."""
    app = str(history.about.get("app", ""))
    return app.partition(".")[0] if ":" in app else app


def privacy_text(history: RunHistory) -> str:
    """Return all that the run promises about privacy, in a few lines; nothing if it does not."""
    if history.privacy is None:
        return ""
    from umbel.privacy import PrivacyStatement

    return str(PrivacyStatement.from_json(history.privacy))


def headline_metrics(history: RunHistory) -> dict[str, Any]:
    """Return the newest metrics of the phase that tells most: server, evaluate, train."""
    last = history.last_metrics()
    return next((last[phase] for phase in reversed(PHASES) if phase in last), {})


def last_round_table(history: RunHistory) -> Table:
    """Return the newest metrics, a row for each phase."""
    from rich.table import Table

    last = history.last_metrics()
    merged = {name: value for metrics in last.values() for name, value in metrics.items()}
    names = scalar_names(merged)
    table = Table("phase", *names)
    for phase in PHASES:
        if phase in last:
            cells = (last[phase].get(name) for name in names)
            table.add_row(phase, *(number(cell) for cell in cells))
    return table


def rounds_table(history: RunHistory) -> Table:
    """Return all metrics, a row for each round."""
    from rich.table import Table

    columns = []
    for phase in PHASES:
        merged: dict[str, Any] = {}
        for metrics in history.metrics.get(phase, {}).values():
            merged |= metrics
        columns += [(phase, name) for name in scalar_names(merged)]
    table = Table("round", *(f"{phase}\n{name}" for phase, name in columns), "failures", "seconds")
    rounds = {number for by_round in history.metrics.values() for number in by_round}
    for server_round in sorted(rounds | history.round_seconds.keys()):
        cells = [history.metrics[phase].get(server_round, {}).get(name) for phase, name in columns]
        failures = sum(failure["round"] == server_round for failure in history.failures)
        seconds = history.round_seconds.get(server_round)
        table.add_row(
            str(server_round), *(number(cell) for cell in cells), str(failures), number(seconds)
        )
    return table
