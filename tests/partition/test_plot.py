import sys

import numpy as np
import pytest

from umbel.base import MissingDependency, PartitionError
from umbel.partition import iid, label_counts, natural_id, plot_label_distributions

pytest.importorskip("matplotlib")

LABELS = np.arange(60) % 3
PARTITIONS = iid(LABELS, 4)
COUNTS = label_counts(PARTITIONS, LABELS).counts


def heights(figure):
    """The height of each bar drawn, by client and then from the bottom up."""
    corners = [path.vertices for path in figure.axes[0].collections[0].get_paths()]
    return [float(np.ptp(vertices[:, 1])) for vertices in corners]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bar", "heatmap"])
@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_saves_a_file(tmp_path, kind, suffix, magic):
    path = tmp_path / f"labels.{suffix}"
    plot_label_distributions(PARTITIONS, LABELS, path, kind)
    assert path.read_bytes().startswith(magic)


def test_bars_are_the_counts():
    figure = plot_label_distributions(PARTITIONS, LABELS)
    assert heights(figure) == COUNTS.ravel().tolist()
    keys = [text.get_text() for text in figure.legends[0].get_texts()]
    assert keys == ["2", "1", "0"]
    assert figure.axes[0].get_ylim()[1] > COUNTS.sum(axis=1).max()


def test_percent_of_each_client():
    figure = plot_label_distributions(PARTITIONS, LABELS, size_unit="percent")
    totals = np.reshape(heights(figure), COUNTS.shape).sum(axis=1)
    assert totals == pytest.approx(100)


def test_heatmap_has_a_cell_a_client_and_class():
    figure = plot_label_distributions(PARTITIONS, LABELS, kind="heatmap")
    assert figure.axes[0].images[0].get_array().tolist() == COUNTS.T.tolist()
    assert [text.get_text() for text in figure.axes[0].texts] == [str(n) for n in COUNTS.ravel()]


def test_first_clients_only_but_figures_of_all():
    skewed = natural_id(LABELS)
    figure = plot_label_distributions(skewed, LABELS, max_num_partitions=1)
    assert heights(figure) == [20]
    assert figure.axes[0].get_title().startswith("total variation 0.667")


def test_title():
    figure = plot_label_distributions(PARTITIONS, LABELS, title="digits")
    assert figure.axes[0].get_title() == "digits"


def test_many_classes_have_a_colour_bar():
    labels = np.arange(200) % 40
    figure = plot_label_distributions(iid(labels, 100), labels)
    assert not figure.legends
    assert figure.axes[1].get_ylabel() == "class"


def test_clients_without_samples():
    figure = plot_label_distributions([[], []], LABELS)
    assert heights(figure) == []
    assert figure.axes[0].get_title() == "no samples"


def test_pyplot_is_left_alone():
    already = "matplotlib.pyplot" in sys.modules
    plot_label_distributions(PARTITIONS, LABELS)
    assert ("matplotlib.pyplot" in sys.modules) == already


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"kind": "pie"}, "unknown kind 'pie'.*one of bar, heatmap"),
        ({"size_unit": "kg"}, "unknown size_unit 'kg'"),
        ({"max_num_partitions": 0}, "max_num_partitions must be at least 1"),
    ],
)
def test_errors(arguments, text):
    with pytest.raises(PartitionError, match=text):
        plot_label_distributions(PARTITIONS, LABELS, **arguments)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"need matplotlib.*umbel\[plot\]"):
        plot_label_distributions(PARTITIONS, LABELS)
