import builtins

import numpy as np
import pytest

from umbel.base import MissingDependency, RecordError
from umbel.records import MetricRecord
from umbel.serverapp import Result


@pytest.fixture
def result():
    return Result(
        train_metrics_clientapp={r: MetricRecord({"loss": 1 / r}) for r in (1, 2, 3)},
        evaluate_metrics_clientapp={
            r: MetricRecord({"loss": 2 / r, "accuracy": r / 4, "per_class": [0.1, 0.2]})
            for r in (2, 3)
        },
        evaluate_metrics_serverapp={r: MetricRecord({"accuracy": r / 5}) for r in (0, 1, 2, 3)},
    )


def test_a_frame_has_a_row_a_round_and_a_column_a_metric(result):
    frame = result.to_pandas()
    assert list(frame.index) == [0, 1, 2, 3]
    assert frame.index.name == "round"
    assert set(frame.columns) == {
        "train/loss",
        "evaluate/loss",
        "evaluate/accuracy",
        "evaluate/per_class",
        "server/accuracy",
    }
    assert frame.loc[3, "evaluate/accuracy"] == 0.75
    assert np.isnan(frame.loc[0, "train/loss"])
    assert frame.loc[2, "evaluate/per_class"] == [0.1, 0.2]


def test_an_empty_result_is_an_empty_frame():
    assert Result().to_pandas().empty


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_plot_is_written_in_the_format_that_its_name_says(result, ending, tmp_path):
    figure = result.plot(tmp_path / f"metrics.{ending}")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert (tmp_path / f"metrics.{ending}").read_bytes().startswith(start)
    titles = [axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert titles == ["loss", "accuracy"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[1].lines}
    assert lines == {
        "evaluation, mean of clients": [[2, 0.5], [3, 0.75]],
        "evaluation on the server": [[0, 0.0], [1, 0.2], [2, 0.4], [3, 0.6]],
    }


def test_what_is_not_finite_is_left_open(result):
    result.train_metrics_clientapp[2] = MetricRecord({"loss": float("nan")})
    figure = result.plot()
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[1])


def test_a_plot_of_nothing_is_refused():
    with pytest.raises(RecordError, match="no metrics to plot"):
        Result(train_metrics_clientapp={1: MetricRecord({"per_class": [1.0]})}).plot()


@pytest.mark.parametrize(
    ("library", "use"), [("pandas", Result.to_pandas), ("matplotlib", Result.plot)]
)
def test_a_library_that_is_missing_is_named(result, library, use, monkeypatch):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=r"pip install .umbel\[plot\]"):
        use(result)
