from collections import OrderedDict

import numpy as np
import pytest

from umbel.base import RecordError
from umbel.records.array import Array
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.mapping import MissingKey


@pytest.fixture
def ndarrays():
    return [np.arange(6.0).reshape(2, 3), np.ones(3, "float32")]


def test_a_list_is_named_by_position(ndarrays):
    record = ArrayRecord(ndarrays)
    assert list(record) == ["0", "1"]
    assert record == ArrayRecord.from_numpy_ndarrays(ndarrays)
    assert record == ArrayRecord(numpy_ndarrays=ndarrays)
    assert record == ArrayRecord(tuple(ndarrays))
    assert len(ArrayRecord()) == 0


def test_a_mapping_keeps_its_names_and_their_order(ndarrays):
    record = ArrayRecord({"w": ndarrays[0], "b": Array(ndarrays[1])})
    assert list(record) == ["w", "b"]
    assert record == ArrayRecord.from_array_dict({"w": Array(ndarrays[0]), "b": ndarrays[1]})
    assert record == ArrayRecord(array_dict=OrderedDict(w=ndarrays[0], b=ndarrays[1]))


def test_buffers_are_shared_and_views_cannot_be_written(ndarrays):
    views = ArrayRecord(ndarrays).views()
    assert all(np.shares_memory(views[str(i)], ndarray) for i, ndarray in enumerate(ndarrays))
    with pytest.raises(ValueError, match="read-only"):
        views["0"][0] = 1


def test_to_numpy_ndarrays_gives_writable_copies(ndarrays):
    record = ArrayRecord(ndarrays)
    copies = record.to_numpy_ndarrays()
    copies[0][:] = -1
    assert ndarrays[0][0, 1] == 1
    assert len(record) == 2


def test_the_input_is_let_go_of_on_request(ndarrays):
    kept = list(ndarrays)
    named = {"a": ndarrays[0]}
    assert len(ArrayRecord(ndarrays, keep_input=False)) == 2
    assert len(ArrayRecord(named, keep_input=False)) == 1
    assert ndarrays == []
    assert named == {}
    assert len(ArrayRecord(tuple(kept), keep_input=False)) == 2


def test_the_record_is_let_go_of_on_request(ndarrays):
    read_only = np.ones(2)
    read_only.flags.writeable = False
    record = ArrayRecord([*ndarrays, read_only])
    out = record.to_numpy_ndarrays(keep_input=False)
    assert len(record) == 0
    assert out[0] is ndarrays[0]
    assert not np.shares_memory(out[2], read_only)
    assert out[2].flags.writeable


def test_an_ndarray_is_wrapped_when_it_is_set(ndarrays):
    record = ArrayRecord()
    record["w"] = ndarrays[0]
    record.update(b=ndarrays[1])
    assert isinstance(record["w"], Array)
    assert isinstance(record["b"], Array)


def test_bytes_are_counted(ndarrays):
    assert ArrayRecord(ndarrays).count_bytes() == 48 + 12


def test_a_copy_has_its_own_names_and_the_same_arrays(ndarrays):
    record = ArrayRecord(ndarrays)
    copied = record.copy()
    del copied["0"]
    assert list(record) == ["0", "1"]
    assert copied["1"] is record["1"]
    assert type(copied) is ArrayRecord


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (np.zeros((2, 3)), "cannot be made from ndarray"),
        ("weights", "cannot be made from str"),
        ({1: np.zeros(1)}, "a key is a string, got 1"),
        ({"w": [1.0]}, "cannot be made from list"),
        ([np.array([None])], "Python objects"),
    ],
)
def test_what_cannot_be_held_is_refused(source, text):
    with pytest.raises(RecordError, match=text):
        ArrayRecord(source)


def test_the_error_names_the_array():
    with pytest.raises(RecordError, match=r"key: fc\.weight"):
        ArrayRecord({"fc.weight": None})


def test_several_sources_are_refused(ndarrays):
    with pytest.raises(RecordError, match="one source"):
        ArrayRecord(ndarrays, array_dict={})


def test_a_missing_name_is_an_error_that_lists_the_names(ndarrays):
    record = ArrayRecord({"w": ndarrays[0]})
    with pytest.raises(KeyError, match="the keys are 'w'"):
        record["b"]
    with pytest.raises(MissingKey, match="no array under 'b'"):
        del record["b"]
    assert record.get("b") is None
    assert "b" not in record
    with pytest.raises(MissingKey, match="it is empty"):
        ArrayRecord()["b"]
