"""``umbel plot``: a run's metrics by round, a panel for each metric."""

from __future__ import annotations

from pathlib import Path

from umbel.base import ConfigError, MissingDependency
from umbel.cli.history import PHASES, RunHistory, find_run, read_history
from umbel.cli.tables import scalar_names

_FORMATS = (".png", ".svg")
_LABELS = {"train": "clients, training", "evaluate": "clients, evaluation", "server": "server"}
_FRACTIONS = ("accuracy", "precision", "recall", "f1", "auc")
_UNITS = {"_s": "s", "_ms": "ms", "_bytes": "bytes"}


def plot_run(name: str, runs_dir: Path, out: Path | None) -> None:
    """Draw the run's metrics into ``out``, by default ``metrics.png`` in the run's folder."""
    folder = find_run(name, runs_dir)
    out = out or folder / "metrics.png"
    if out.suffix not in _FORMATS:
        raise ConfigError(
            f"cannot draw a {out.suffix or 'file without a suffix'}",
            hint=f"end the name in {' or '.join(_FORMATS)}",
            file=out,
        )
    history = read_history(folder)
    if not history.metrics:
        raise ConfigError("the run has no metrics to draw", hint="see: umbel show", run=folder.name)
    _draw(history, out)
    print(out)


def _draw(history: RunHistory, out: Path) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise MissingDependency(
            "umbel plot needs matplotlib", hint='pip install "umbel[plot]"'
        ) from error

    merged = {
        name: value
        for by_round in history.metrics.values()
        for metrics in by_round.values()
        for name, value in metrics.items()
    }
    names = scalar_names(merged)
    figure = Figure(figsize=(4.8 * len(names), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    about = history.about
    figure.suptitle(f"{about.get('app')}, run {about.get('run_id')}: {about.get('nodes')} nodes")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for phase in PHASES:
            by_round = history.metrics.get(phase, {})
            points = [(r, m[name]) for r, m in sorted(by_round.items()) if name in m]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=_LABELS[phase])
        axes.set_title(name)
        axes.set_xlabel("round")
        axes.set_ylabel(_axis_label(name))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


def _axis_label(name: str) -> str:
    """Return the metric's name and its unit, as far as the name tells it."""
    if name.endswith(_FRACTIONS):
        return f"{name} (fraction)"
    unit = next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), None)
    return f"{name} ({unit})" if unit else name
