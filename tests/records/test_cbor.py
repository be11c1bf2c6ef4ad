"""The codec "cbor": what a library of CBOR sees of it, and what is refused."""

import tracemalloc

import cbor2
import ml_dtypes
import numpy as np
import pytest

from umbel.base import MissingDependency, ProtocolError, RecordError
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.cbor import Cbor
from umbel.records.codecs import codec_names, codec_of
from umbel.records.configrecord import ConfigRecord
from umbel.records.metricrecord import MetricRecord
from umbel.records.recorddict import RecordDict

CODEC = Cbor()


def written(content):
    return b"".join(CODEC.encode(content))


def body(records, *data, header=None):
    header = cbor2.dumps(["umbel", 1, records]) if header is None else header
    return cbor2.dumps(cbor2.CBORTag(55799, [header, *data]))


def arrays(*entries):
    return [["a", "arrays", list(entries)]]


def values(*entries, kind="config"):
    return [["r", kind, list(entries)]]


def test_a_library_reads_what_is_written():
    content = RecordDict(
        {
            "a": ArrayRecord(
                {"w": np.ones((2, 3), "float32"), "b": np.ones(1, ml_dtypes.bfloat16)}
            ),
            "m": MetricRecord({"loss": 3.0, "n": 3, "none": [], "curve": [0.5]}),
            "c": ConfigRecord({"key": b"\0", "use": True, "text": ["é"]}),
        }
    )
    header, *data = cbor2.loads(written(content))
    assert data == [np.ones(6, "float32").tobytes(), b"\x80\x3f"]
    assert cbor2.loads(header) == [
        "umbel",
        1,
        [
            ["a", "arrays", [["w", "float32", [2, 3]], ["b", "bfloat16", [1]]]],
            [
                "m",
                "metrics",
                [
                    ["loss", "float", 3.0],
                    ["n", "int", 3],
                    ["none", "[]", []],
                    ["curve", "float[]", [0.5]],
                ],
            ],
            [
                "c",
                "config",
                [["key", "bytes", b"\0"], ["use", "bool", True], ["text", "str[]", ["é"]]],
            ],
        ],
    ]
    assert written(content).startswith(bytes.fromhex("d9d9f7"))


def test_what_a_library_writes_is_read():
    records = [*arrays(["w", "<f4", [2]]), *values(["a", "float", 3], ["b", "float[]", [1, 2.5]])]
    records[0][2][0][1] = "float32"
    again = CODEC.decode(body(records, np.array([1, 2], "<f4").tobytes()))
    assert again["a"]["w"].numpy().tolist() == [1, 2]
    assert repr(dict(again["r"])) == "{'a': 3.0, 'b': [1.0, 2.5]}"


def test_buffers_of_arrays_are_handed_out_themselves_and_read_as_views():
    ndarray = np.zeros((100, 10), "uint8")
    buffers = CODEC.encode(RecordDict({"a": ArrayRecord({"w": ndarray})}))
    assert any(np.shares_memory(np.frombuffer(b, "uint8"), ndarray) for b in buffers)
    file = b"".join(buffers)
    view = CODEC.decode(file)["a"]["w"].view()
    assert np.shares_memory(view, np.frombuffer(file, "uint8"))
    assert not view.flags.writeable


def test_arrays_are_aligned():
    named = {dtype: np.zeros(3, dtype) for dtype in ("i1", "f8", "i2", "c16", "f4", "i1")}
    for array in CODEC.decode(written(RecordDict({"a": ArrayRecord(named)})))["a"].values():
        assert array.view().flags.aligned
        assert not array.view().flags.writeable


BYTES = b"\0" * 8
BROKEN = {
    "nothing": (b"", "does not begin"),
    "no tag": (cbor2.dumps([b""]), "does not begin"),
    "no list": (bytes.fromhex("d9d9f700"), "no list"),
    "endless": (bytes.fromhex("d9d9f79f40ff"), "no list"),
    "no header": (bytes.fromhex("d9d9f780"), "too few"),
    "no place for a header": (bytes.fromhex("d9d9f78040"), "-1 arrays"),
    "too many arrays": (bytes.fromhex("d9d9f79a7fffffff40"), "are not read"),
    "a large header": (bytes.fromhex("d9d9f7815b7fffffffffffffff"), "are not read"),
    "a header cut short": (bytes.fromhex("d9d9f7815a00000100"), "too few"),
    "no CBOR": (body([], header=b"\x1c"), "not the CBOR"),
    "an empty header": (body([], header=b""), "not the CBOR"),
    "two items": (body([], header=cbor2.dumps(["umbel", 1, []]) + b"\0"), "more than one item"),
    "depth": (body([], header=b"\x81" * 100_000), "not the CBOR"),
    "version": (body([], header=cbor2.dumps(["umbel", 2, []])), "the header is not"),
    "version is true": (body([], header=cbor2.dumps(["umbel", True, []])), "the header is not"),
    "a map": (body([], header=cbor2.dumps({"umbel": 1})), "no maps"),
    "a map of numbers": (body([], header=cbor2.dumps([{1: 1}])), "not the CBOR"),
    "a record is text": (body(["a"]), "a record is"),
    "a kind": (body([["a", "tables", []]]), "a record is"),
    "no name": (body([[1, "arrays", []]]), "a record is"),
    "a record twice": (body([["a", "config", []]] * 2), "listed twice"),
    "an array": (body(arrays(["w", "float32"]), BYTES), "an array is"),
    "an array twice": (body(arrays(*[["w", "int64", [1]]] * 2), BYTES, BYTES), "listed twice"),
    "objects": (body(arrays(["w", "object", [1]]), BYTES), "Python objects"),
    "dtype": (body(arrays(["w", "float33", [1]]), BYTES), "unknown dtype"),
    "shape": (body(arrays(["w", "float32", [-1]]), BYTES), "non-negative"),
    "true as a length": (body(arrays(["w", "int64", [True]]), BYTES), "non-negative"),
    "too large": (body(arrays(["w", "int8", [0, 2**62, 4]]), b""), "too large"),
    "too large without bytes": (body(arrays(["w", "|V0", [0, 2**62, 4]]), b""), "too large"),
    "too many without bytes": (body(arrays(["w", "|V0", [2**62, 4]]), b""), "too large"),
    "too short": (body(arrays(["w", "int64", [2]]), BYTES), "which takes 16"),
    "text for bytes": (body(arrays(["w", "int64", [1]]), "12345678"), "no byte string"),
    "an array too many": (body([], BYTES), "lists 0 arrays"),
    "an array too few": (body(arrays(["w", "int64", [1]])), "too few"),
    "more behind": (body([]) + b"\0", "ends at byte"),
    "no value": (body(values(["k", "int"])), "a value is"),
    "a value twice": (body(values(*[["k", "int", 1]] * 2)), "listed twice"),
    "unknown type": (body(values(["k", "date", 1])), "unknown type"),
    "a metric of text": (body(values(["k", "str", "a"], kind="metrics")), "unknown type"),
    "a list of nothing with values": (body(values(["k", "[]", [1]])), "unknown type"),
    **{
        f"{kind} {value!r}": (body(values(["k", kind, value])), "is not what its type")
        for kind, value in [
            ("int", 1.0),
            ("int", True),
            ("int", None),
            ("int", -(2**63) - 1),
            ("int", [1]),
            ("int[]", 1),
            ("int[]", [1, "a"]),
            ("float", "1.5"),
            ("float", True),
            ("str", b"a"),
            ("bool", 1),
            ("bytes", "a"),
            ("str", cbor2.undefined),
        ]
    },
    **{
        f"tag {tag}": (body(values(["k", "int", cbor2.CBORTag(tag, value)])), "not the CBOR")
        for tag, value in [
            (2, b"\1" * 9),
            (5, [2**62, 1]),  # 2 to that power, times 1
            (28, []),
            (35, "(a*)*b"),
            (256, ["a"]),
            (55799, 1),
            (12345, 1),
        ]
    },
}


@pytest.mark.parametrize(("file", "text"), BROKEN.values(), ids=[key[:40] for key in BROKEN])
def test_what_is_broken_is_refused_and_told_why(file, text):
    with pytest.raises(ProtocolError, match=text):
        CODEC.decode(file)


@pytest.mark.parametrize(
    "header",
    [
        b"\x9a\x00\x0f\xff\xff" + b"\x80" * 0xFFFFF,
        b"\x9a\x00\x0f\xff\xff" + b"\xa0" * 0xFFFFF,
        b"\x9b\x7f" + b"\xff" * 7,
        b"\x80",
    ],
    ids=["lists", "maps", "endless", "empty"],
)
def test_a_hostile_header_takes_little_memory(header):
    file = body([], header=header)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            CODEC.decode(file)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(file) + 100_000
    finally:
        tracemalloc.stop()


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(RecordError, match="no Unicode text"):
        CODEC.encode(RecordDict({"c": ConfigRecord({"path": "\udcff"})}))


def test_a_list_that_was_changed_behind_the_checks_is_found():
    metrics = MetricRecord({"curve": [0.5]})
    metrics["curve"].append("x")
    with pytest.raises(RecordError, match="key: curve"):
        CODEC.encode(RecordDict({"m": metrics}))


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cbor2", None)
    codec_of.cache_clear()
    with pytest.raises(MissingDependency, match=r"umbel\[deploy\]"):
        codec_of("cbor")


def test_it_is_known():
    assert "cbor" in codec_names()
    assert codec_of("cbor").name == "cbor"
