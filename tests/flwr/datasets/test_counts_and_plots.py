"""Counts of classes as frames, and the pictures of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets
import matplotlib
import numpy as np
import pytest

from umbel.base import PartitionError
from umbel.flwr.datasets.metrics import compute_counts, compute_frequencies
from umbel.flwr.datasets.partitioner import IidPartitioner, VerticalEvenPartitioner
from umbel.flwr.datasets.visualization import (
    plot_comparison_label_distribution,
    plot_label_distributions,
)


@pytest.fixture
def partitioner(kind: Any) -> IidPartitioner:
    made = IidPartitioner(3)
    made.dataset = kind({"y": list("abcabcaabc"), "x": np.arange(10)})
    return made


@pytest.fixture
def named() -> IidPartitioner:
    names = datasets.ClassLabel(names=["cat", "dog", "owl", "yak"])
    features = datasets.Features({"y": names})
    made = IidPartitioner(2)
    made.dataset = datasets.Dataset.from_dict({"y": [0, 1, 2, 2, 2, 0]}, features=features)
    return made


@pytest.fixture(autouse=True)
def pyplot() -> Iterator[None]:
    matplotlib.use("agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def test_counts(partitioner: IidPartitioner) -> None:
    frame = compute_counts(partitioner, "y")
    assert frame.to_dict("list") == {"a": [2, 1, 1], "b": [1, 1, 1], "c": [1, 1, 1]}
    assert frame.index.name == "Partition ID"
    assert frame.index.tolist() == [0, 1, 2]
    first = compute_frequencies(partitioner, "y", max_num_partitions=1)
    assert first.to_numpy().tolist() == [[0.5, 0.25, 0.25]]


def test_classes_without_rows_and_their_names(named: IidPartitioner) -> None:
    counts = compute_counts(named, "y")
    assert counts.columns.tolist() == [0, 1, 2, 3]
    assert counts.to_numpy().tolist() == [[1, 1, 1, 0], [1, 0, 2, 0]]
    assert compute_counts(named, "y", verbose_names=True).columns.tolist() == [
        "cat",
        "dog",
        "owl",
        "yak",
    ]


def test_a_column_that_is_not_there_is_told(partitioner: IidPartitioner) -> None:
    with pytest.raises(PartitionError, match="no column 'z'"):
        compute_counts(partitioner, "z")
    columns = VerticalEvenPartitioner(2, shuffle=False)
    columns.dataset = {"a": [1], "b": [2]}
    with pytest.raises(PartitionError, match="no column 'b'"):
        compute_counts(columns, "b")


@pytest.mark.slow
@pytest.mark.parametrize("along", ["x", "y"])
def test_bars(named: IidPartitioner, along: Any) -> None:
    figure, axes, frame = plot_label_distributions(
        named,
        "y",
        partition_id_axis=along,
        title="Animals",
        legend=True,
        legend_title="animal",
        plot_kwargs={"width": 0.5},
    )
    assert axes.figure is figure
    assert axes.get_title() == "Animals"
    names = axes.get_xlabel(), axes.get_ylabel()
    assert names == (("Partition ID", "Count") if along == "x" else ("Count", "Partition ID"))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(frame.columns)
    bars = [(bar.get_width(), bar.get_height()) for bar in axes.patches]
    thick, long = zip(*(bars if along == "x" else [b[::-1] for b in bars]), strict=True)
    assert set(thick) == {0.5}
    assert list(long) == frame.to_numpy().T.ravel().tolist()


@pytest.mark.slow
def test_heatmap(named: IidPartitioner) -> None:
    _, axes, frame = plot_label_distributions(
        named,
        "y",
        "heatmap",
        "percent",
        cmap="viridis",
        legend=True,
        plot_kwargs={"annot": True, "fmt": ".0f"},
    )
    (image,) = axes.images
    assert np.array_equal(image.get_array(), frame.to_numpy().T)
    assert frame.sum(axis=1).tolist() == pytest.approx([100.0, 100.0])
    assert [text.get_text() for text in axes.texts[:2]] == ["33", "33"]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(frame.columns)
    assert image.colorbar is not None


@pytest.mark.slow
@pytest.mark.parametrize("plot_type", ["bar", "heatmap"])
def test_comparison(named: IidPartitioner, plot_type: Any) -> None:
    other = IidPartitioner(40)
    other.dataset = {"label": np.arange(80) % 3}
    figure, axes, frames = plot_comparison_label_distribution(
        [named, other], ["y", "label"], plot_type, titles=["A", "B"], legend=True
    )
    assert [len(frame) for frame in frames] == [2, 30]
    assert [a.get_title() for a in axes] == ["A", "B"]
    assert figure.get_suptitle().startswith("Comparison")


def test_a_picture_is_drawn_where_it_is_told_to(named: IidPartitioner) -> None:
    from matplotlib.figure import Figure

    mine = Figure().subplots()
    _, axes, _ = plot_label_distributions(named, "y", "heatmap", axis=mine)
    assert axes is mine


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"plot_type": "pie"}, "unknown plot_type 'pie'"),
        ({"size_unit": "kilo"}, "unknown size_unit"),
        ({"partition_id_axis": "z"}, "unknown partition_id_axis"),
        ({"label_name": "z"}, "no column 'z'"),
    ],
)
def test_wrong_choices_are_told(named: IidPartitioner, options: Any, text: str) -> None:
    with pytest.raises(PartitionError, match=text):
        plot_label_distributions(**{"partitioner": named, "label_name": "y", **options})


def test_one_entry_for_each_partitioner(named: IidPartitioner) -> None:
    with pytest.raises(PartitionError, match="titles has 1 entries for 2 partitioners"):
        plot_comparison_label_distribution([named, named], "y", titles=["A"])
