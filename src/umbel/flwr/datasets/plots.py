"""Pictures of how the classes of a column are spread over the clients of a partitioner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from umbel.base import MissingDependency, PartitionError
from umbel.flwr.datasets.counts import INDEX_NAME, compute_counts, compute_frequencies
from umbel.flwr.datasets.partitioners import Partitioner

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_UNITS = {"absolute": "Count", "percent": "Percent %"}


def plot_label_distributions(
    partitioner: Partitioner,
    label_name: str,
    plot_type: Literal["bar", "heatmap"] = "bar",
    size_unit: Literal["absolute", "percent"] = "absolute",
    max_num_partitions: int | None = None,
    partition_id_axis: Literal["x", "y"] = "x",
    axis: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    title: str = "Per Partition Label Distribution",
    cmap: str | Colormap | None = None,
    legend: bool = False,
    legend_title: str | None = None,
    verbose_labels: bool = True,
    plot_kwargs: Mapping[str, Any] | None = None,
    legend_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Figure, Axes, pd.DataFrame]:
    """Return a picture of the classes of each client, its axes, and the numbers drawn.

    Parameters
    ----------
    partitioner : Partitioner
        With a data set.
    label_name : str
        The column with the classes.
    plot_type : {"bar", "heatmap"}
        One stacked bar a client, or one cell a client and class.
    size_unit : {"absolute", "percent"}
        Numbers of rows, or percent of each client's rows.
    max_num_partitions : int, optional
        The first clients only.
    partition_id_axis : {"x", "y"}
        Along which axis the clients stand.
    axis : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    figsize : tuple of float, optional
        Width and height of a new figure, in inches.
    title : str
        Above the axes.
    cmap : str or Colormap, optional
        The colours.
    legend : bool
        Say what the colours mean: a legend of bars, a colour bar of a heatmap.
    legend_title : str, optional
        Its title; the column's name by default.
    verbose_labels : bool
        Show the names that a ``ClassLabel`` has for its numbers.
    plot_kwargs : mapping, optional
        More arguments of ``DataFrame.plot`` (bars) or ``Axes.imshow`` (heatmap); ``annot`` and
        ``fmt`` write the numbers into the cells of a heatmap.
    legend_kwargs : mapping, optional
        More arguments of ``Axes.legend`` (bars) or ``Figure.colorbar`` (heatmap).

    Raises
    ------
    PartitionError
        There is no such column, or an argument is none of its choices.
    MissingDependency
        matplotlib or pandas is not installed.
    """
    _checked("plot_type", plot_type, ("bar", "heatmap"))
    _checked("size_unit", size_unit, _UNITS)
    _checked("partition_id_axis", partition_id_axis, ("x", "y"))
    if size_unit == "absolute":
        frame = compute_counts(partitioner, label_name, verbose_labels, max_num_partitions)
    else:
        shares = compute_frequencies(partitioner, label_name, verbose_labels, max_num_partitions)
        frame = shares * 100.0
    if axis is None:
        axis = _pyplot().subplots(figsize=figsize, layout="constrained")[1]
    draw = _draw_bars if plot_type == "bar" else _draw_heatmap
    scale = draw(axis, frame, partition_id_axis == "y", cmap, dict(plot_kwargs or {}))
    other = _UNITS[size_unit] if plot_type == "bar" else label_name
    names = (INDEX_NAME, other) if partition_id_axis == "x" else (other, INDEX_NAME)
    axis.set(title=title, xlabel=names[0], ylabel=names[1])
    figure: Any = axis.figure
    more = dict(legend_kwargs or {})
    if legend and scale is not None:
        figure.colorbar(scale, ax=axis, **{"label": legend_title or _UNITS[size_unit], **more})
    elif legend:
        outside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        axis.legend(**{"title": legend_title or label_name, **outside, **more})
    return figure, axis, frame


def plot_comparison_label_distribution(
    partitioner_list: Sequence[Partitioner],
    label_name: str | Sequence[str],
    plot_type: Literal["bar", "heatmap"] = "bar",
    size_unit: Literal["percent", "absolute"] = "percent",
    max_num_partitions: int | None = 30,
    partition_id_axis: Literal["x", "y"] = "y",
    figsize: tuple[float, float] | None = None,
    subtitle: str = "Comparison of Per Partition Label Distribution",
    titles: Sequence[str] | None = None,
    cmap: str | Colormap | None = None,
    legend: bool = False,
    legend_title: str | None = None,
    verbose_labels: bool = True,
    plot_kwargs_list: Sequence[Mapping[str, Any] | None] | None = None,
    legend_kwargs: Mapping[str, Any] | None = None,
) -> tuple[Figure, list[Axes], list[pd.DataFrame]]:
    """Return pictures of several partitioners side by side, their axes, and the numbers drawn.

    Parameters
    ----------
    partitioner_list : sequence of Partitioner
        Each with a data set.
    label_name : str or sequence of str
        The column with the classes; one for all, or one for each.
    subtitle : str
        Above the whole figure.
    titles : sequence of str, optional
        Above each picture; the partitioners' class names by default.
    plot_kwargs_list : sequence of mapping, optional
        ``plot_kwargs`` of each picture.
    legend : bool
        Say what the colours mean, beside the last picture.

    Notes
    -----
    The other parameters, and the errors, are those of `plot_label_distributions`.
    """
    count = len(partitioner_list)
    labels = [label_name] * count if isinstance(label_name, str) else list(label_name)
    headings = titles or [type(partitioner).__name__ for partitioner in partitioner_list]
    options = plot_kwargs_list or [None] * count
    for name, given in (
        ("label_name", labels),
        ("titles", headings),
        ("plot_kwargs_list", options),
    ):
        if count == 0 or len(given) != count:
            raise PartitionError(f"{name} has {len(given)} entries for {count} partitioners")
    figure, grid = _pyplot().subplots(
        1, count, figsize=figsize or (3.2 * count + 1, 4.8), layout="constrained", squeeze=False
    )
    axes: list[Axes] = list(grid[0])
    frames = []
    for place, partitioner in enumerate(partitioner_list):
        is_last = place == count - 1
        drawn = plot_label_distributions(
            partitioner,
            labels[place],
            plot_type,
            size_unit,
            max_num_partitions,
            partition_id_axis,
            axis=axes[place],
            title=headings[place],
            cmap=cmap,
            legend=legend and is_last,
            legend_title=legend_title,
            verbose_labels=verbose_labels,
            plot_kwargs=options[place],
            legend_kwargs=legend_kwargs,
        )
        frames.append(drawn[2])
    figure.suptitle(subtitle)
    return figure, axes, frames


def _draw_bars(
    axes: Axes, frame: pd.DataFrame, upright: bool, cmap: Any, options: dict[str, Any]
) -> None:
    palette = cmap or ("tab10" if frame.shape[1] <= 10 else "tab20")
    draw: Any = frame.plot.barh if upright else frame.plot.bar
    settings = {"stacked": True, "legend": False, "rot": 0, "colormap": palette, **options}
    draw(ax=axes, **settings)


def _draw_heatmap(
    axes: Axes, frame: pd.DataFrame, upright: bool, cmap: Any, options: dict[str, Any]
) -> Any:
    annotated, form = options.pop("annot", False), options.pop("fmt", "g")
    cells = frame.to_numpy() if upright else frame.to_numpy().T
    settings = {"aspect": "auto", "cmap": cmap or "Blues", "interpolation": "nearest", **options}
    image = axes.imshow(cells, **settings)
    clients, classes = [str(i) for i in frame.index], [str(name) for name in frame.columns]
    across, down = (classes, clients) if upright else (clients, classes)
    axes.set_xticks(range(len(across)), labels=across)
    axes.set_yticks(range(len(down)), labels=down)
    if annotated:
        middle = cells.max() / 2
        for (row, column), value in np.ndenumerate(cells):
            ink = "white" if value > middle else "black"
            axes.text(column, row, format(value, form), ha="center", va="center", color=ink)
    return image


def _checked(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise PartitionError(f"unknown {name} {value!r}", hint=f"one of {', '.join(choices)}")


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingDependency("plots need matplotlib", hint='pip install "umbel[plot]"') from None
    return pyplot
