"""``umbel plot``: a run's metrics by round, a panel for each metric."""

from __future__ import annotations

from pathlib import Path

from umbel.base import ConfigError
from umbel.cli.history import PHASES, find_run, read_history
from umbel.cli.tables import app_name, scalar_names

_FORMATS = (".png", ".svg")


def plot_run(name: str, runs_dir: Path, out: Path | None) -> None:
    """Draw the run's metrics into ``out``, by default ``metrics.png`` in the run's folder.

    Raises
    ------
    ConfigError
        If there is no such run, it has no metrics, or ``out`` is of another format.
    MissingDependency
        If matplotlib is not installed.
    """
    folder = find_run(name, runs_dir)
    out = out or folder / "metrics.png"
    if out.suffix not in _FORMATS:
        raise ConfigError(
            f"cannot draw into {out.name!r}",
            hint=f"end the name in {' or '.join(_FORMATS)}",
            file=out,
        )
    history = read_history(folder)
    rows = [
        {"round": server_round, "phase": phase, "metric": metric, "value": metrics[metric]}
        for phase in PHASES
        for server_round, metrics in history.metrics.get(phase, {}).items()
        for metric in scalar_names(metrics)
    ]
    if not rows:
        raise ConfigError("the run has no metrics to draw", hint="see: umbel show", run=folder.name)
    from umbel.serverapp import plot_metrics

    title = f"{app_name(history)}, run {folder.name}, {history.about.get('nodes')} nodes"
    out.parent.mkdir(parents=True, exist_ok=True)
    plot_metrics(rows, out, title)
    print(out)
