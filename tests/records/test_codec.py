import json
import math
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors import numpy as oracle

from umbel.base import ProtocolError, RecordError
from umbel.records.array import Array
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.codec import decode, encode, size_bytes
from umbel.records.codecs import codec_of
from umbel.records.configrecord import ConfigRecord
from umbel.records.metricrecord import MetricRecord
from umbel.records.recorddict import RecordDict

ML_DTYPES = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3", "int4", "float6_e2m3fn"]
DTYPES = st.one_of(
    npst.scalar_dtypes(),
    npst.boolean_dtypes(),
    npst.byte_string_dtypes(max_len=5),
    npst.unicode_string_dtypes(max_len=5),
    npst.array_dtypes(npst.scalar_dtypes(), max_size=3),
    st.sampled_from([np.dtype(getattr(ml_dtypes, name)) for name in ML_DTYPES]),
    st.sampled_from([np.dtype(">f4"), np.dtype(">c16"), np.dtype("longdouble"), np.dtype("V3")]),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["a/b", "100%", "%2F", "/", "__metadata__", "é"]
)


@st.composite
def ndarrays(draw):
    """An array of any dtype, shape and layout; its bytes are random."""
    dtype = draw(DTYPES)
    shape = draw(npst.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3))
    size = math.prod(shape) * dtype.itemsize
    ndarray = np.ndarray(shape, dtype, draw(st.binary(min_size=size, max_size=size)) or None)
    match draw(st.sampled_from(["C", "transposed", "reversed", "every other"])):
        case "transposed":
            return ndarray.T
        case "reversed" if ndarray.ndim:
            return ndarray[::-1]
        case "every other" if ndarray.ndim:
            return np.repeat(ndarray, 2, axis=0)[::2]
    return ndarray


def mappings(values):
    return st.dictionaries(KEYS, values, max_size=3)


def values_and_lists(*kinds):
    return st.one_of(*kinds, *(st.lists(kind, max_size=3) for kind in kinds))


INTEGERS = st.integers(-(2**63), 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
CONTENTS = mappings(
    st.one_of(
        mappings(ndarrays()).map(ArrayRecord),
        mappings(values_and_lists(INTEGERS, st.floats())).map(MetricRecord),
        mappings(
            values_and_lists(INTEGERS, st.floats(), TEXT, st.binary(max_size=5), st.booleans())
        ).map(ConfigRecord),
    )
).map(RecordDict)


def written(content):
    return b"".join(encode(content))


def arrays(**named):
    return RecordDict({"arrays": ArrayRecord(named)})


def as_text(content):
    """All that must survive a journey, NaN, types and order too, as comparable text."""
    return [
        (name, type(record).__name__, [(key, *value_as_text(v)) for key, v in record.items()])
        for name, record in content.items()
    ]


def value_as_text(value):
    is_array = isinstance(value, Array)
    return (value.dtype, value.shape, bytes(value.data)) if is_array else (repr(value),)


class TestRoundTrip:
    @pytest.mark.parametrize("name", ["safetensors", "cbor"])
    @given(CONTENTS)
    @settings(max_examples=300)
    @pytest.mark.slow
    def test_everything_comes_back_as_it_was(self, name, content):
        codec = codec_of(name)
        buffers = codec.encode(content)
        file = b"".join(buffers)
        again = codec.decode(file)
        assert as_text(again) == as_text(content)
        assert size_bytes(buffers) == len(file)
        assert b"".join(codec.encode(again)) == file

    @pytest.mark.parametrize("name", ML_DTYPES)
    def test_types_of_ml_dtypes(self, name):
        content = arrays(w=np.array([[1.0, 0.0, 2.0]]).astype(getattr(ml_dtypes, name)))
        assert decode(written(content)) == content

    def test_floats_that_are_not_numbers_stay_floats(self):
        metrics = MetricRecord({"a": [math.nan, math.inf, -math.inf, -0.0], "b": 1.0, "c": 1})
        again = decode(written(RecordDict({"m": metrics})))["m"]
        assert repr(again) == repr(metrics)

    def test_nothing_is_a_body_too(self):
        assert decode(written(RecordDict())) == RecordDict()
        content = RecordDict({"a": ArrayRecord(), "m": MetricRecord(), "c": ConfigRecord()})
        assert as_text(decode(written(content))) == as_text(content)

    def test_records_and_arrays_keep_their_order(self):
        record = ArrayRecord({"z": np.zeros(1, "i1"), "a": np.zeros(1), "m": np.zeros(1, "f4")})
        content = RecordDict({"z": MetricRecord(), "y": record, "a": ConfigRecord()})
        again = decode(written(content))
        assert list(again) == ["z", "y", "a"]
        assert list(again["y"]) == ["z", "a", "m"]


class TestNoCopies:
    def test_buffers_of_arrays_are_handed_out_themselves(self):
        ndarray = np.zeros((100, 10), "float32")
        _, buffer = encode(arrays(w=ndarray))
        assert np.shares_memory(np.frombuffer(buffer, "uint8"), ndarray)

    def test_empty_arrays_give_no_buffer(self):
        assert len(encode(arrays(a=np.zeros((0, 3)), b=np.zeros(1)))) == 2

    def test_decoded_arrays_are_read_only_views_of_the_body(self):
        file = bytearray(written(arrays(w=np.zeros(4), e=np.zeros(0))))
        record = decode(file)["arrays"]
        assert np.shares_memory(record["w"].view(), np.frombuffer(file, "uint8"))
        for array in record.values():
            assert not array.view().flags.writeable
            assert not array._array.flags.writeable

    def test_views_are_aligned_when_the_body_is(self):
        dtypes = ["i1", "f8", "U5", "f2", "c16", "f4", "longdouble", "?", "S3", "i8"]
        named = {dtype: np.zeros(3, dtype) for dtype in dtypes}
        file = written(arrays(**named))
        aligned = np.zeros(len(file) + 64, "uint8")
        aligned = aligned[-aligned.ctypes.data % 64 :][: len(file)]
        aligned[:] = np.frombuffer(file, "uint8")
        for array in decode(aligned.data)["arrays"].values():
            assert array.view().flags.aligned


PLAIN_DTYPES = (
    "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 complex64"
)
NAMED = {
    **{name: np.arange(6).reshape(2, 3).astype(name) for name in PLAIN_DTYPES.split()},
    "zero-d": np.array(3.0),
    "empty": np.zeros((0, 2)),
    "empty at the end": np.zeros(0, "int8"),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "big-endian": np.arange(3, dtype=">i4"),
}


class TestOracle:
    """The safetensors library reads what is written here, and the other way round."""

    def test_it_reads_what_is_written(self):
        loaded = oracle.load(written(arrays(**NAMED)))
        assert loaded.keys() == {f"arrays/{name}" for name in NAMED}
        for name, ndarray in NAMED.items():
            assert np.array_equal(loaded[f"arrays/{name}"], ndarray)
            assert loaded[f"arrays/{name}"].dtype == ndarray.dtype.newbyteorder("=")

    def test_it_reads_a_body_without_arrays(self):
        assert oracle.load(written(RecordDict({"m": MetricRecord({"loss": 0.5})}))) == {}

    def test_what_it_writes_is_read_into_one_record(self):
        plain = {n: np.ascontiguousarray(a) for n, a in NAMED.items() if n != "big-endian"}
        again = decode(oracle.save(plain, {"format": "np"}))
        assert list(again) == ["arrays"]
        assert again["arrays"].keys() == plain.keys()
        for name, ndarray in plain.items():
            assert again["arrays"][name] == Array(ndarray)

    def test_its_file_may_have_a_slash_in_every_name(self):
        again = decode(oracle.save({"a/w": np.zeros(1), "a/b": np.zeros(1)}))
        assert set(again["arrays"]) == {"a/w", "a/b"}

    def test_what_it_writes_again_keeps_our_metadata(self):
        file = written(arrays(w=np.zeros(2, "float32"), b=np.zeros(3)))
        (length,) = struct.unpack_from("<Q", file)
        metadata = json.loads(file[8 : 8 + length])["__metadata__"]
        again = decode(oracle.save(oracle.load(file), metadata))
        assert dict(again["arrays"]) == dict(decode(file)["arrays"])

    @pytest.mark.slow
    @given(mappings(ndarrays()))
    @settings(max_examples=100)
    def test_it_accepts_every_body(self, named):
        deserialize = pytest.importorskip("safetensors").deserialize
        file = written(RecordDict({"arrays": ArrayRecord(named)}))
        found = {name: bytes(tensor["data"]) for name, tensor in deserialize(file)}
        assert found == {f"arrays/{k}": bytes(Array(v).data) for k, v in named.items()}


def test_other_languages_find_plain_json():
    content = RecordDict(
        {
            "a/b": ArrayRecord({"x/y": np.zeros(2, "complex128")}),
            "m": MetricRecord({"loss": math.nan, "n": 3, "big": 2**60, "curve": [0.5]}),
            "c": ConfigRecord({"key": b"\x00\xff", "flag": True, "names": ["é"], "none": []}),
        }
    )
    file = written(content)
    (length,) = struct.unpack_from("<Q", file)
    header = json.loads(file[8 : 8 + length])
    assert header["a%2Fb/x/y"] == {"dtype": "U8", "shape": [2, 16], "data_offsets": [0, 32]}
    assert header["__metadata__"]["umbel"] == "1"
    assert json.loads(header["__metadata__"]["records"]) == [
        {"name": "a/b", "kind": "arrays", "dtypes": {"x/y": "complex128"}},
        {
            "name": "m",
            "kind": "metrics",
            "values": {
                "loss": {"float": "nan"},
                "n": {"int": 3},
                "big": {"int": "1152921504606846976"},
                "curve": {"float[]": [0.5]},
            },
        },
        {
            "name": "c",
            "kind": "config",
            "values": {
                "key": {"bytes": "AP8="},
                "flag": {"bool": True},
                "names": {"str[]": ["é"]},
                "none": {"[]": []},
            },
        },
    ]


def test_text_that_is_no_unicode_is_refused():
    for content in (
        RecordDict({"c": ConfigRecord({"path": "\udcff"})}),
        RecordDict({"\udcff": ConfigRecord()}),
        arrays(**{"\udcff": np.zeros(1)}),
    ):
        with pytest.raises(RecordError, match="no Unicode text"):
            encode(content)


def test_a_list_that_was_changed_behind_the_checks_is_found():
    metrics = MetricRecord({"curve": [0.5]})
    metrics["curve"].append("x")
    with pytest.raises(RecordError, match="key: curve"):
        encode(RecordDict({"m": metrics}))


def umbel_body(records, tensors=None, version="1"):
    """A body whose list of records says anything."""
    records = records if isinstance(records, str) else json.dumps(records)
    return oracle.save(tensors or {}, {"umbel": version, "records": records})


def values(typed, kind="config"):
    return umbel_body([{"name": "r", "kind": kind, "values": {"k": typed}}])


MISTYPED = [
    {"int": 1.0},
    {"int": True},
    {"int": None},
    {"int": "1.0"},
    {"int": "\uff11"},
    {"int": "9" * 5000},
    {"int": 2**64},
    {"int[]": [1, "a"]},
    {"float": "1.5"},
    {"float": True},
    {"float": []},
    {"float": 10**400},
    {"str": 1},
    {"bool": 1},
    {"bytes": 1},
    {"bytes": "?"},
    {"bytes": "AA"},
    {"bytes": "\xe9"},
]
BYTES16 = {"a/x": np.zeros((2, 16), "uint8")}
BROKEN = {
    "version": (umbel_body([], version="2"), "version '2'"),
    "no list of records": (oracle.save({}, {"umbel": "1"}), "is not JSON"),
    "no JSON": (umbel_body("["), "list of records is not JSON"),
    "deep JSON": (umbel_body("[" * 100_000), "list of records nests too deeply"),
    "no list": (umbel_body({}), "not a JSON list"),
    "no object": (umbel_body([1]), "no name"),
    "no name": (umbel_body([{"kind": "arrays"}]), "no name"),
    "twice": (umbel_body([{"name": "a", "kind": "arrays"}] * 2), "listed twice"),
    "kind": (umbel_body([{"name": "a", "kind": "tables"}]), "unknown kind of record 'tables'"),
    "kind is a list": (umbel_body([{"name": "a", "kind": []}]), "unknown kind"),
    "stray tensor": (umbel_body([], {"a/x": np.zeros(1)}), "belongs to no record"),
    "tensor without slash": (
        umbel_body([{"name": "a", "kind": "arrays"}], {"a": np.zeros(1)}),
        "belongs to no record",
    ),
    "tensor of a metric record": (
        umbel_body([{"name": "a", "kind": "metrics", "values": {}}], {"a/x": np.zeros(1)}),
        "belongs to no record",
    ),
    "dtypes is a list": (umbel_body([{"name": "a", "kind": "arrays", "dtypes": []}]), "dtypes"),
    **{
        f"dtype {name}": (
            umbel_body([{"name": "a", "kind": "arrays", "dtypes": {key: name}}], tensors),
            text,
        )
        for key, name, tensors, text in (
            ("x", 1, BYTES16, "strings to strings"),
            ("x", "object", BYTES16, "Python objects"),
            ("x", "complex129", BYTES16, "unknown dtype"),
            ("x", "complex64", BYTES16, "travels as U8 with 8 bytes"),
            ("x", "int64", {"a/x": np.zeros(8)}, "not as F64"),
            ("x", "S1", {"a/x": np.array(1, "uint8")}, "unknown dtype"),
            ("x", "|S1", {"a/x": np.array(1, "uint8")}, "travels as U8"),
            ("y", "complex128", BYTES16, "a dtype is given for no tensor"),
        )
    },
    "no values": (umbel_body([{"name": "r", "kind": "config"}]), "has no values"),
    "untyped": (values(1), "an object with its type"),
    "two types": (values({"int": 1, "float": 1}), "an object with its type"),
    "unknown type": (values({"date": 1}), "unknown type of value 'date'"),
    "a metric of text": (values({"str": "a"}, "metrics"), "unknown type of value 'str'"),
    "a list of nothing with values": (values({"[]": [1]}), "unknown type"),
    "a list that is none": (values({"int[]": 1}), "is a list"),
    **{f"{typed}": (values(typed), "is not what its type") for typed in MISTYPED},
}


@pytest.mark.parametrize(("file", "text"), BROKEN.values(), ids=[key[:40] for key in BROKEN])
def test_broken_records_are_refused_and_told_why(file, text):
    with pytest.raises(ProtocolError, match=text):
        decode(file)


def test_a_float_may_be_written_without_a_point():
    assert repr(decode(values({"float": 1}))["r"]["k"]) == "1.0"


EXAMPLE = RecordDict(
    {
        "arrays": ArrayRecord({"w": np.ones((2, 3)), "s": np.array(["ab"]), "e": np.zeros(0)}),
        "metrics": MetricRecord({"loss": math.nan, "n": [1, 2]}),
        "config": ConfigRecord({"key": b"ab", "text": "é"}),
    }
)


@pytest.mark.parametrize("name", ["safetensors", "cbor"])
@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=300)
def test_bytes_changed_anywhere_are_read_or_refused(name, data):
    codec = codec_of(name)
    file = bytearray(b"".join(codec.encode(EXAMPLE)))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    file = file[: data.draw(st.just(len(file)) | st.integers(0, len(file)))]
    try:
        content = codec.decode(file)
    except ProtocolError:
        return
    assert as_text(codec.decode(b"".join(codec.encode(content)))) == as_text(content)
