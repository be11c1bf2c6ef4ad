import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from umbel.base import MissingDependency, PartitionError
from umbel.partition import heterogeneity, iid, label_counts

LABELS = np.array(["cat", "dog", "cat", "owl"])
matrices = hnp.arrays(np.int64, (4, 3), elements=st.integers(0, 50)).filter(np.any)


def test_counts():
    table = label_counts([[0, 2], np.array([1]), []], LABELS)
    assert table.classes.tolist() == ["cat", "dog", "owl"]
    assert table.counts.tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert table.sizes.tolist() == [2, 1, 0]
    assert table.distributions().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_text_is_a_table_that_lines_up():
    lines = str(label_counts([[0, 2], [1, 3]], LABELS)).splitlines()
    assert lines[:4] == [
        "client  samples  cat  dog  owl",
        "     0        2    2    0    0",
        "     1        2    0    1    1",
        "   all        4    2    1    1",
    ]
    assert lines[4].startswith("total variation 0.5")


def test_text_of_many_clients_and_classes_stays_small():
    labels = np.arange(1000) % 100
    text = str(label_counts(iid(labels, 50), labels))
    assert len(text.splitlines()) == 25
    assert max(map(len, text.splitlines())) < 90
    assert "(not shown: 30 clients, 88 classes)" in text


def test_text_without_any_sample():
    assert str(label_counts([[]], LABELS)).splitlines()[-1].split() == ["all", "0", "0", "0", "0"]


def test_to_pandas():
    frame = label_counts([[0, 2], [1]], LABELS).to_pandas()
    assert frame.loc[0, "cat"] == 2
    assert frame.shape == (2, 3)
    assert (frame.index.name, frame.columns.name) == ("client", "class")


def test_to_pandas_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependency, match=r"needs pandas.*umbel\[plot\]"):
        label_counts([[0]], LABELS).to_pandas()


@pytest.mark.parametrize(
    ("partitions", "text"),
    [
        ([], "no partitions"),
        ([[0], [4]], "indices reach from 4 to 4, but there are 4 labels.*client: 1"),
        ([[-1]], "from -1 to -1"),
        ([[0.5]], "list of indices, got float64"),
        ([[[0, 1]]], "list of indices"),
        ([[True, False]], "list of indices, got bool"),
    ],
)
def test_errors(partitions, text):
    with pytest.raises(PartitionError, match=text):
        label_counts(partitions, LABELS)


@settings(max_examples=50)
@given(counts=matrices)
def test_figures_against_scipy(counts):
    distance = pytest.importorskip("scipy.spatial.distance")
    everyone = counts.sum(axis=0) / counts.sum()
    rows = [row / row.sum() for row in counts if row.any()]
    got = heterogeneity(counts)
    # scipy takes the root of a difference that rounding can make 1e-17 where it is 0.
    expected = np.mean([np.nan_to_num(distance.jensenshannon(p, everyone, 2)) for p in rows])
    assert got.jensen_shannon == pytest.approx(expected, abs=1e-7)
    city = np.mean([distance.cityblock(p, everyone) / 2 for p in rows])
    assert got.total_variation == pytest.approx(city)
    sizes = counts.sum(axis=1)
    assert got.size_imbalance == pytest.approx(np.std(sizes) / np.mean(sizes))


@given(counts=matrices)
def test_figures_are_in_range_and_do_not_depend_on_the_order(counts):
    got = heterogeneity(counts)
    assert 0 <= got.total_variation < 1
    assert 0 <= got.jensen_shannon <= 1
    other = heterogeneity(counts[::-1, ::-1])
    assert other.jensen_shannon == pytest.approx(got.jensen_shannon, abs=1e-7)
    assert other.total_variation == pytest.approx(got.total_variation)


def test_equal_clients_have_no_heterogeneity():
    got = heterogeneity([[3, 5, 7]] * 4)
    assert got.total_variation == pytest.approx(0, abs=1e-12)
    assert got.jensen_shannon == pytest.approx(0, abs=1e-7)
    assert got.size_imbalance == 0


@pytest.mark.parametrize("counts", [[1, 2], [[0, 0]], [[-1, 2]], [[np.nan]], np.zeros((0, 3))])
def test_bad_counts(counts):
    with pytest.raises(PartitionError, match="counts must be a matrix"):
        heterogeneity(counts)
