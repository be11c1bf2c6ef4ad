"""What every codec keeps to, as checks that anyone can run on theirs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from umbel.base import ProtocolError
from umbel.records import (
    Array,
    ArrayRecord,
    Codec,
    ConfigRecord,
    MetricRecord,
    RecordDict,
    encode,
)
from umbel.testing.cases import Check, asserting, big_endian, strided

_PLAIN = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 complex64"
_RARE = "bfloat16 float8_e4m3fn float8_e5m2 int4 complex128 datetime64[D] |S3 <U2"
_BYTES_CHANGED = (0x00, 0x01, 0x7F, 0x80, 0xFF)


def codec_checks() -> Iterator[tuple[str, Check]]:
    """Yield ``(name, check)`` for everything that the contract of a codec asks for.

    ``check(codec)`` returns nothing or raises ``AssertionError``.

    Examples
    --------
    >>> from umbel.records import codec_of
    >>> for name, check in codec_checks():
    ...     check(codec_of("safetensors"))
    """
    checks = {
        "name": _name,
        "nothing": _nothing,
        "dtypes": _dtypes,
        "shapes": _shapes,
        "layouts": _layouts,
        "numbers": _numbers,
        "texts": _texts,
        "order": _order,
        "same_bytes": _same_bytes,
        "cut_short": _cut_short,
        "changed_bytes": _changed_bytes,
    }
    for name, check in checks.items():
        yield name, asserting(check)


def _name(codec: Codec) -> None:
    assert type(codec.name) is str, "a codec's name is text"
    assert codec.name, "a codec has a name"


def _nothing(codec: Codec) -> None:
    _survives(codec, RecordDict())
    _survives(codec, RecordDict({"a": ArrayRecord(), "m": MetricRecord(), "c": ConfigRecord()}))


def _dtypes(codec: Codec) -> None:
    arrays = {}
    for name in (*_PLAIN.split(), *_RARE.split()):
        size = Array(name, (0,), "raw", b"").view().dtype.itemsize
        arrays[name] = Array(name, (3,), "raw", bytes(range(3 * size)))
    _survives(codec, RecordDict({"arrays": ArrayRecord(arrays)}))


def _shapes(codec: Codec) -> None:
    shapes = [(), (0,), (1,), (3, 0, 2), (1, 2, 1, 2, 1), (70_000,)]
    arrays = {str(shape): np.ones(shape, "float32") for shape in shapes}
    _survives(codec, RecordDict({"arrays": ArrayRecord(arrays)}))


def _layouts(codec: Codec) -> None:
    named = {"w": np.arange(12.0).reshape(3, 4), "n": np.arange(5, dtype="int16")}
    for arrays in (strided(named), big_endian(named), {k: a.T for k, a in named.items()}):
        _survives(codec, RecordDict({"arrays": ArrayRecord(arrays)}))


def _numbers(codec: Codec) -> None:
    integers = [0, 1, -1, 23, 24, 255, 256, 2**53 + 1, 2**63, 2**64 - 1, -(2**63)]
    floats = [0.0, -0.0, 1.0, 0.1, 5e-324, 1.7976931348623157e308, float("nan"), float("inf")]
    metrics = {"integers": integers, "floats": [*floats, -float("inf")], "none": []}
    each = {f"i{i}": v for i, v in enumerate(integers)} | {f"f{i}": v for i, v in enumerate(floats)}
    _survives(codec, RecordDict({"lists": MetricRecord(metrics), "each": MetricRecord(each)}))


def _texts(codec: Codec) -> None:
    texts = ["", "a/b%2F", "é🌱", '"\\\n\0\u2028', "x" * 300]
    config = ConfigRecord(
        {text: text for text in texts}
        | {"texts": texts, "flags": [True, False], "bytes": [b"", bytes(range(256))], "key": b"\0"}
    )
    arrays = ArrayRecord({text: np.ones(1) for text in texts})
    _survives(codec, RecordDict({"config": config} | {f"a{text}": arrays for text in texts}))


def _order(codec: Codec) -> None:
    names = ["10", "z", "9", "a", "2"]
    records: dict[str, ArrayRecord | MetricRecord] = {n: MetricRecord() for n in names}
    records["1"] = ArrayRecord({n: np.zeros(i, f"i{1 << i % 4}") for i, n in enumerate(names)})
    records["0"] = MetricRecord(dict.fromkeys(names, 1.0))
    _survives(codec, RecordDict(dict(records)))


def _same_bytes(codec: Codec) -> None:
    # Objects are named by their bytes, and one that is gone is written again.
    assert _written(codec, _example()) == _written(codec, _example()), (
        "the same content gives the same bytes"
    )


def _cut_short(codec: Codec) -> None:
    data = _written(codec, _example())
    for size in range(len(data)):
        _read_or_refused(codec, data[:size])


def _changed_bytes(codec: Codec) -> None:
    data = bytearray(_written(codec, _example()))
    for place, before in enumerate(data):
        for after in _BYTES_CHANGED:
            data[place] = after
            _read_or_refused(codec, bytes(data))
        data[place] = before


def _example() -> RecordDict:
    return RecordDict(
        {
            "arrays": ArrayRecord({"w": np.ones((2, 3)), "s": np.array(["ab"]), "e": np.zeros(0)}),
            "metrics": MetricRecord({"loss": 0.5, "n": [1, 2]}),
            "config": ConfigRecord({"key": b"ab", "text": "é"}),
        }
    )


def _survives(codec: Codec, content: RecordDict) -> None:
    again = codec.decode(_written(codec, content))
    # Compared as one known codec writes them: NaN, order and the kinds of numbers count.
    assert b"".join(encode(again)) == b"".join(encode(content)), (
        f"{again} came back for {content}, or what is in it differs"
    )


def _read_or_refused(codec: Codec, data: bytes) -> None:
    try:
        content = codec.decode(data)
    except ProtocolError:
        return
    except Exception as error:
        raise AssertionError(
            f"broken bytes are refused by ProtocolError, not {type(error).__name__}: {error}"
        ) from error
    assert isinstance(content, RecordDict), "what is read is a RecordDict"


def _written(codec: Codec, content: RecordDict) -> bytes:
    return b"".join(codec.encode(content))
