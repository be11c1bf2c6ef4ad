"""A header from a stranger is read with distrust: every rule broken by hand, then at random."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import HEADER_MAX_BYTES, ProtocolError, RecordError
from umbel.records import header
from umbel.records.header import Tensor, read_header, write_header


def body(text, data_bytes=0, length=None):
    """A file with this header, whatever it says."""
    text = text if isinstance(text, bytes) else text.encode()
    length = len(text) if length is None else length
    return memoryview(struct.pack("<Q", length) + text + bytes(data_bytes))


def listing(**tensors):
    """A header in JSON; each tensor is (dtype, shape, begin, end)."""
    return json.dumps(
        {
            name: {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
            for name, (dtype, shape, begin, end) in tensors.items()
        }
    )


def entry(**fields):
    whole = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return json.dumps({"a": whole | fields})


BROKEN = {
    "empty": (memoryview(b""), "too short for the length"),
    "seven bytes": (memoryview(b"1234567"), "too short for the length"),
    "length past the end": (body("{}", length=3), "only 2 follow"),
    "huge length": (body("{}", length=HEADER_MAX_BYTES + 1), "more than the"),
    "largest length": (body("{}", length=2**64 - 1), "more than the"),
    "no object": (body("[]"), "does not start with"),
    "leading space": (body(" {}"), "does not start with"),
    "no text": (body(b"{\xff}"), "not Unicode text"),
    "half a surrogate pair": (body('{"\\ud800": 1}'), "not Unicode text"),
    "no JSON": (body("{"), "is not JSON"),
    "two values": (body("{}{}"), "is not JSON"),
    "NaN": (body('{"a": NaN}'), "NaN is not strict JSON"),
    "huge integer": (body('{"a": ' + "9" * 5000 + "}"), "is not JSON"),
    "deep list": (body('{"a": ' + "[" * 200_000), "nests too deeply"),
    "deep object": (body('{"a":' * 200_000), "nests too deeply"),
    "a tensor twice": (body('{"a": 1, "a": 2}'), "stands twice"),
    "a field twice": (body('{"a": {"dtype": "F32", "dtype": "F32"}}'), "stands twice"),
    "metadata is a list": (body('{"__metadata__": []}'), "strings to strings"),
    "metadata holds a number": (body('{"__metadata__": {"a": 1}}'), "strings to strings"),
    "a number as tensor": (body('{"a": 1}'), "a dtype, a shape and data_offsets"),
    "a field missing": (body('{"a": {"dtype": "F32"}}'), "a dtype, a shape and data_offsets"),
    "a field more": (body(entry(more=1), 4), "a dtype, a shape and data_offsets"),
    "unknown dtype": (body(entry(dtype="F33"), 4), "unknown dtype 'F33'"),
    "packed dtype": (body(entry(dtype="F4", shape=[8]), 4), "unknown dtype 'F4'"),
    "dtype is a number": (body(entry(dtype=32), 4), "unknown dtype"),
    "negative length": (body(entry(shape=[-1]), 4), "non-negative integers"),
    "fractional length": (body(entry(shape=[1.0]), 4), "non-negative integers"),
    "boolean length": (body(entry(shape=[True]), 4), "non-negative integers"),
    "shape is a number": (body(entry(shape=1), 4), "non-negative integers"),
    "too many dimensions": (body(entry(shape=[1] * 65), 4), "non-negative integers"),
    "length beyond 64 bits": (body(entry(shape=[2**64]), 4), "non-negative integers"),
    "product beyond 64 bits": (body(entry(shape=[2**32, 2**32]), 4), "which takes"),
    "huge and empty": (body(entry(shape=[0, 2**62], data_offsets=[0, 0])), "too large"),
    "offsets missing": (body(entry(data_offsets=[4]), 4), "a pair"),
    "offsets reversed": (body(entry(data_offsets=[4, 0]), 4), "a pair"),
    "negative offset": (body(entry(data_offsets=[-4, 0]), 4), "a pair"),
    "offsets as text": (body(entry(data_offsets=["0", "4"]), 4), "a pair"),
    "too small for its shape": (body(entry(shape=[2]), 4), "which takes 8"),
    "data missing": (body(entry(), 3), "but only 3 follow"),
    "data left over": (body(entry(), 5), "1 bytes follow the last tensor"),
    "data without tensors": (body("{}", 1), "1 bytes follow the last tensor"),
    "overlap": (
        body(listing(a=("F32", [2], 0, 8), b=("F32", [1], 4, 8)), 8),
        "overlaps another: it begins at 4",
    ),
    "the same place twice": (
        body(listing(a=("F32", [1], 0, 4), b=("F32", [1], 0, 4)), 4),
        "overlaps another",
    ),
    "empty inside another": (
        body(listing(a=("F32", [2], 0, 8), b=("F32", [0], 4, 4)), 8),
        "overlaps another",
    ),
    "hole": (
        body(listing(a=("F32", [1], 0, 4), b=("F32", [1], 8, 12)), 12),
        "a hole of 4 bytes",
    ),
    "hole at the start": (body(entry(data_offsets=[4, 8]), 8), "a hole of 4 bytes"),
}


@pytest.mark.parametrize(("file", "text"), BROKEN.values(), ids=BROKEN)
def test_a_broken_header_is_refused_and_told_why(file, text):
    with pytest.raises(ProtocolError, match=text):
        read_header(file)


def test_too_many_tensors_are_refused_on_both_sides(monkeypatch):
    tensors = [Tensor(str(i), "U8", (0,), 0, 0) for i in range(5)]
    file = memoryview(write_header(tensors, {}))
    monkeypatch.setattr(header, "TENSORS_MAX_COUNT", 4)
    with pytest.raises(ProtocolError, match="lists 5 tensors, more than 4"):
        read_header(file)
    with pytest.raises(RecordError, match="more than the"):
        write_header(tensors, {})


def test_a_header_too_large_to_be_read_is_not_written(monkeypatch):
    monkeypatch.setattr(header, "HEADER_MAX_BYTES", 1000)
    write_header([], {"a": "x" * 900})
    with pytest.raises(RecordError, match="long lists of numbers"):
        write_header([], {"a": "x" * 1000})


def test_the_order_of_names_is_not_that_of_the_data():
    text = listing(b=("F32", [1], 4, 8), a=("F32", [1], 0, 4), empty=("U8", [0], 4, 4))
    found = read_header(body(text + "   ", 8))
    assert [tensor.name for tensor in found.tensors] == ["b", "a", "empty"]
    assert found.data_start == 8 + len(text) + 3
    assert found.metadata == {}


@given(st.text(max_size=30))
@settings(max_examples=50)
def test_the_data_starts_aligned(text):
    file = memoryview(write_header([], {"note": text}))
    assert len(file) % 64 == 0
    assert read_header(file) == ([], {"note": text}, len(file))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "BF16", "XX"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | JSON,
    }
)


@given(st.dictionaries(st.text(max_size=3), FIELDS | JSON, max_size=3), st.integers(0, 40))
@settings(max_examples=50)
def test_any_json_is_read_or_refused(entries, data_bytes):
    file = body(json.dumps(entries), data_bytes)
    try:
        found = read_header(file)
    except ProtocolError:
        return
    assert sum(tensor.end - tensor.begin for tensor in found.tensors) == data_bytes
