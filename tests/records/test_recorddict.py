import numpy as np
import pytest

from umbel.base import RecordError
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.configrecord import ConfigRecord
from umbel.records.mapping import MissingKey
from umbel.records.metricrecord import MetricRecord
from umbel.records.recorddict import RecordDict


@pytest.fixture
def content():
    return RecordDict(
        {
            "arrays": ArrayRecord([np.zeros(2)]),
            "metrics": MetricRecord({"loss": 0.5}),
            "config": ConfigRecord({"lr": 0.1}),
            "more": MetricRecord({"acc": [0.1, 0.2]}),
        }
    )


def test_it_shares_the_records_and_keeps_their_order(content):
    assert list(content) == ["arrays", "metrics", "config", "more"]
    assert RecordDict(content)["metrics"] is content["metrics"]


def test_the_dictionary_given_stays_apart():
    given = {"metrics": MetricRecord()}
    content = RecordDict(given)
    content["config"] = ConfigRecord()
    assert list(given) == ["metrics"]


@pytest.mark.parametrize("value", [{"loss": 0.5}, None, np.zeros(2), RecordDict()], ids=str)
def test_only_records_are_taken(value):
    with pytest.raises(RecordError, match="a RecordDict holds records"):
        RecordDict({"x": value})
    content = RecordDict()
    with pytest.raises(RecordError, match="a RecordDict holds records"):
        content["x"] = value
    assert "x" not in content


def test_a_name_is_a_string():
    with pytest.raises(RecordError, match="a key is a string"):
        RecordDict({1: MetricRecord()})


def test_views_show_one_kind_in_order(content):
    assert list(content.metric_records) == ["metrics", "more"]
    assert list(content.array_records) == ["arrays"]
    assert list(content.config_records) == ["config"]
    assert len(content.metric_records) == 2
    assert "arrays" not in content.metric_records
    assert dict(content.config_records) == {"config": content["config"]}


def test_a_view_is_written_through_both_ways(content):
    view = content.metric_records
    view["new"] = MetricRecord({"x": 1})
    assert content["new"] is view["new"]
    del view["metrics"]
    assert "metrics" not in content
    content["late"] = MetricRecord()
    del content["more"]
    assert list(view) == ["new", "late"]


def test_a_view_takes_its_kind_alone(content):
    view = content.metric_records
    with pytest.raises(RecordError, match="only a MetricRecord goes here, got ConfigRecord"):
        view["x"] = ConfigRecord()
    with pytest.raises(RecordError, match="a key is a string"):
        view[1] = MetricRecord()
    with pytest.raises(MissingKey, match="no MetricRecord under 'arrays'"):
        view["arrays"]
    with pytest.raises(MissingKey):
        del view["arrays"]
    assert "arrays" in content


def test_a_copy_has_its_own_records_and_the_same_arrays(content):
    copied = content.copy()
    assert copied == content
    copied["metrics"]["loss"] = 1.0
    copied["arrays"]["new"] = np.zeros(1)
    copied["more"]["acc"].append(0.3)
    del copied["config"]
    assert content["metrics"]["loss"] == 0.5
    assert list(content["arrays"]) == ["0"]
    assert content["more"]["acc"] == [0.1, 0.2]
    assert "config" in content
    assert copied["arrays"]["0"] is content["arrays"]["0"]


@pytest.mark.parametrize("value", [3, [MetricRecord()], "arrays"])
def test_it_is_made_from_a_dict(value):
    with pytest.raises(RecordError, match="a RecordDict cannot be made from"):
        RecordDict(value)
