"""A picture of how labels are spread over clients."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from umbel.base import MissingDependency
from umbel.partition.arguments import checked_choice, checked_count
from umbel.partition.label_counts import LabelCounts, label_counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LEGEND_CLASSES = 20
MAX_SEPARATE_BARS = 60
MAX_WRITTEN_CELLS = 300


def plot_label_distributions(
    partitions: Sequence[npt.ArrayLike],
    labels: npt.ArrayLike,
    path: str | PathLike[str] | None = None,
    kind: Literal["bar", "heatmap"] = "bar",
    *,
    size_unit: Literal["absolute", "percent"] = "absolute",
    max_num_partitions: int | None = None,
    title: str | None = None,
) -> Figure:
    """Return a figure of the number of samples of each class at each client.

    It needs no display and leaves pyplot's state alone.

    Parameters
    ----------
    partitions : sequence of arrays of int
        The indices of each client's samples, as the schemes return them.
    labels : array-like, shape (num_samples,)
        The labels of the whole data set.
    path : path, optional
        Where to save the figure; the suffix names the format (".png", ".svg", ".pdf").
    kind : {"bar", "heatmap"}
        One stacked bar a client, or one cell a client and class.
    size_unit : {"absolute", "percent"}
        Numbers of samples, or percent of each client's samples.
    max_num_partitions : int, optional
        Show the first clients only.
    title : str, optional
        A title instead of the heterogeneity figures (which are those of all clients).

    Raises
    ------
    PartitionError
        An argument is out of range.
    MissingDependency
        matplotlib is not installed.

    Examples
    --------
    >>> figure = plot_label_distributions([[0, 1], [2]], ["cat", "dog", "cat"], kind="heatmap")
    >>> figure.axes[0].get_xlabel()
    'client'
    """
    checked_choice("kind", kind, ("bar", "heatmap"))
    checked_choice("size_unit", size_unit, ("absolute", "percent"))
    table = label_counts(partitions, labels)
    shown = LabelCounts(table.classes, table.counts[: _limit(max_num_partitions)])
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise MissingDependency("plots need matplotlib", hint='pip install "umbel[plot]"') from None

    num_clients, num_classes = shown.counts.shape
    width = float(np.clip(3.5 + 0.3 * num_clients, 6.4, 16))
    height = 4.8 if kind == "bar" else float(np.clip(1.8 + 0.3 * num_classes, 3.6, 12))
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    values = shown.distributions() * 100 if size_unit == "percent" else shown.counts
    quantity = "samples" if size_unit == "absolute" else "percent of the client's samples"
    draw = _draw_bars if kind == "bar" else _draw_heatmap
    draw(figure, axes, np.asarray(values, dtype=np.float64), shown, quantity)
    axes.set_xlabel("client")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(_figures(table) if title is None else title, fontsize="medium")
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _limit(max_num_partitions: int | None) -> int | None:
    if max_num_partitions is None:
        return None
    return checked_count("max_num_partitions", max_num_partitions)


def _figures(table: LabelCounts) -> str:
    return str(table.heterogeneity()) if table.counts.any() else "no samples"


def _draw_bars(
    figure: Figure,
    axes: Axes,
    values: npt.NDArray[np.float64],
    shown: LabelCounts,
    quantity: str,
) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    num_clients, num_classes = values.shape
    names = [str(name) for name in shown.classes]
    in_legend = num_classes <= MAX_LEGEND_CLASSES
    palette = colormaps["tab10" if num_classes <= 10 else "tab20"]
    if not in_legend:
        palette = colormaps["turbo"].resampled(num_classes)
    tops = np.cumsum(values, axis=1)
    client, k = np.nonzero(values)
    half = 0.4 if num_clients <= MAX_SEPARATE_BARS else 0.5
    left, right = client - half, client + half
    top = tops[client, k]
    bottom = top - values[client, k]
    corners = np.stack([left, bottom, left, top, right, top, right, bottom], axis=1)
    # One collection draws thousands of bars where one artist a bar would take minutes.
    rectangles = list(corners.reshape(-1, 4, 2))
    bars = PolyCollection(rectangles, facecolors=palette(k), antialiased=False)
    axes.add_collection(bars, autolim=False)
    axes.set_ylim(0, max(tops.max() * 1.05, 1))
    axes.set(xlim=(-0.6, num_clients - 0.4), ylabel=quantity)
    axes.spines[["top", "right"]].set_visible(False)
    if in_legend:
        keys = [Patch(color=palette(k), label=name) for k, name in enumerate(names)]
        figure.legend(handles=keys[::-1], loc="outside right upper", title="class", frameon=False)
        return
    _class_colour_bar(figure, axes, names)


def _class_colour_bar(figure: Figure, axes: Axes, names: list[str]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-0.5, len(names) - 0.5), "turbo")
    bar = figure.colorbar(scale, ax=axes, label="class")
    ticks = np.unique(np.linspace(0, len(names) - 1, 12).round().astype(int))
    bar.set_ticks(ticks.tolist(), labels=[names[k] for k in ticks])


def _draw_heatmap(
    figure: Figure,
    axes: Axes,
    values: npt.NDArray[np.float64],
    shown: LabelCounts,
    quantity: str,
) -> None:
    image = axes.imshow(values.T, aspect="auto", cmap="Blues", vmin=0, interpolation="nearest")
    figure.colorbar(image, ax=axes, label=quantity)
    axes.set_ylabel("class")
    num_classes = len(shown.classes)
    ticks = np.unique(np.linspace(0, num_classes - 1, min(num_classes, 30)).round().astype(int))
    axes.set_yticks(ticks, labels=[str(shown.classes[k]) for k in ticks])
    if values.size > MAX_WRITTEN_CELLS:
        return
    dark = values.max() / 2
    for (client, k), value in np.ndenumerate(values):
        if value > 0:
            colour = "white" if value > dark else "black"
            axes.text(client, k, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=7)
