"""Metrics as a picture: the only file of this floor that imports matplotlib."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umbel.base import MissingDependency, RecordError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A phase has one colour in all panels.
_LINES = {
    "train": {"label": "training, mean of clients", "color": "C0"},
    "evaluate": {"label": "evaluation, mean of clients", "color": "C1"},
    "server": {"label": "evaluation on the server", "color": "C2"},
}


def plot_metrics(
    rows: list[dict[str, Any]], path: Path | str | None = None, title: str | None = None
) -> Figure:
    """Draw one panel for each metric, with a line for each phase, over the rounds.

    Parameters
    ----------
    rows : list of dict
        With the keys round, phase, metric and value; values that are lists are left out.
    path : Path or str, optional
        Where to write the picture; its ending names the format.
    title : str, optional
        What stands above the panels.

    Raises
    ------
    MissingDependency
        matplotlib is not installed.
    RecordError
        There is no number to draw.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            "a plot needs matplotlib", hint='pip install "umbel[plot]"'
        ) from error
    panels: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if not isinstance(row["value"], list):
            panels[row["metric"]][row["phase"]].append((row["round"], float(row["value"])))
    if not panels:
        raise RecordError("there are no metrics to plot", hint="let clients reply with metrics")
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (metric, phases) in zip(axes, panels.items(), strict=False):
        for phase, points in phases.items():
            points.sort()
            line = _LINES.get(phase, {"label": phase})
            axis.plot(*zip(*points, strict=True), marker=".", **line)
        axis.set(title=metric, xlabel="round", ylabel=metric)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    if title:
        figure.suptitle(title)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
