"""Metric and config records hold plain Python values, whatever they are given."""

import enum

import ml_dtypes
import numpy as np
import pytest

from umbel.base import RecordError
from umbel.records.configrecord import ConfigRecord
from umbel.records.metricrecord import MetricRecord

BOTH = pytest.mark.parametrize("kind", [MetricRecord, ConfigRecord])


class Level(enum.IntEnum):
    LOW = 1


@BOTH
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (3, 3),
        (0.5, 0.5),
        (Level.LOW, 1),
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (ml_dtypes.bfloat16(0.5), 0.5),
        (np.array(0.5, "float32"), 0.5),
        (np.array([1, 2]), [1, 2]),
        (np.array([1, 2], np.longdouble), [1.0, 2.0]),
        (np.array([0.5], ml_dtypes.bfloat16), [0.5]),
        ([1, 2], [1, 2]),
        ([np.float32(0.5), 1.5], [0.5, 1.5]),
        ([], []),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
    ],
    ids=repr,
)
def test_numbers_become_plain(kind, given, kept):
    record = kind({"x": given})
    assert record["x"] == kept
    assert type(record["x"]) is type(kept)
    if isinstance(kept, list):
        assert list(map(type, record["x"])) == list(map(type, kept))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("adam", "adam"),
        (b"\x00", b"\x00"),
        (True, True),
        (np.True_, True),
        (np.str_("adam"), "adam"),
        (np.bytes_(b"a"), b"a"),
        (["a", "b"], ["a", "b"]),
        ([True, False], [True, False]),
        (np.array(["a", "bc"]), ["a", "bc"]),
    ],
    ids=repr,
)
def test_settings_become_plain(given, kept):
    config = ConfigRecord({"x": given})
    assert config["x"] == kept
    assert type(config["x"]) is type(kept)


@BOTH
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "leave the key out"),
        ({"lr": 0.1}, r"\{'optimizer.lr': 0.1\}"),
        ((1, 2), r"list\(value\)"),
        ([[1], [2]], "flat list"),
        ([1, 2.0], "one type, got float and int"),
        ([1, None], "a list with NoneType"),
        (1 << 64, "at most 64 bits"),
        ([1, -(1 << 64)], "at most 64 bits"),
        (1j, "complex"),
        (np.complex64(1), "complex64"),
        (np.zeros((2, 2)), "ArrayRecord"),
        (np.datetime64(0, "ns"), "datetime64"),
        (np.array([0], "timedelta64[ns]"), "ArrayRecord"),
        pytest.param(object(), "object cannot be held", id="object"),
    ],
    ids=repr,
)
def test_what_cannot_be_held_is_refused(kind, value, text):
    record = kind()
    with pytest.raises(RecordError, match=text) as caught:
        record["x"] = value
    assert caught.value.context["key"] == "x"
    assert "x" not in record
    with pytest.raises(RecordError, match=text):
        kind({"x": value})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, r"use int\(value\)"),
        (np.True_, r"use int\(value\)"),
        ([True], r"use int\(value\)"),
        ("0.5", "use a ConfigRecord"),
        (b"1", "use a ConfigRecord"),
        (np.str_("a"), "str_"),
    ],
    ids=repr,
)
def test_metrics_are_numbers(value, text):
    with pytest.raises(RecordError, match=text):
        MetricRecord({"x": value})


def test_a_tensor_is_advised_to_give_its_item():
    class Tensor:
        def item(self):
            return 0.5

    with pytest.raises(RecordError, match=r"call \.item\(\)"):
        MetricRecord({"loss": Tensor()})


@BOTH
def test_a_key_is_a_string(kind):
    with pytest.raises(RecordError, match="a key is a string, got 1"):
        kind({1: 0.5})
    assert kind({np.str_("a"): 0.5}) == {"a": 0.5}


@BOTH
def test_every_way_in_is_checked(kind):
    record = kind()
    with pytest.raises(RecordError):
        record.update(x=None)
    with pytest.raises(RecordError):
        record.setdefault("x", None)
    assert not record


@BOTH
def test_a_list_belongs_to_the_record_alone(kind):
    values = [1, 2]
    record = kind({"x": values})
    values.append(3)
    copied = record.copy()
    copied["x"].append(4)
    assert record["x"] == [1, 2]
    assert copied["x"] == [1, 2, 4]


@BOTH
def test_the_input_is_emptied_on_request(kind):
    given = {"x": 1}
    assert kind(given, keep_input=False)["x"] == 1
    assert given == {}


def test_records_compare_by_kind_and_values():
    assert MetricRecord({"x": 1}) == MetricRecord({"x": 1}) == {"x": 1}
    assert MetricRecord({"x": 1}) != MetricRecord({"x": 2})
    assert MetricRecord({"x": 1}) != ConfigRecord({"x": 1})
    assert MetricRecord({"x": 1}) != [("x", 1)]
    with pytest.raises(TypeError, match="unhashable"):
        hash(MetricRecord())


@pytest.mark.parametrize("kind", [MetricRecord, ConfigRecord])
@pytest.mark.parametrize("value", [3, [1], "lr"])
def test_a_record_is_made_from_a_dict(kind, value):
    with pytest.raises(RecordError, match="cannot be made from"):
        kind(value)
