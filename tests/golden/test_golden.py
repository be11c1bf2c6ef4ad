"""The bytes in this folder are what other languages are tested with; today's code writes them.

``python tests/golden/test_golden.py`` writes them anew, after a change of the format.
"""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ArrayRecord, ConfigRecord, MetricRecord, RecordDict, codec_of, encode

FOLDER = Path(__file__).parent
HASH = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

NUMBERS = [
    *(np.dtype(f"{kind}int{bits}") for kind in ("", "u") for bits in (8, 16, 32, 64)),
    *(np.dtype(f"float{bits}") for bits in (16, 32, 64)),
    *(np.dtype(name) for name in ("bool", "complex64")),
    *(np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")),
]


def extremes(dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "iu":
        return np.array([0, 1, np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    return np.array([0, 1, 1, 0], dtype)


CONTENTS: dict[str, RecordDict] = {
    "empty": RecordDict(),
    "plain": RecordDict(
        {
            "arrays": ArrayRecord(
                {
                    "weights": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
                    "bias": np.array([-1.5, 1e-300], np.float64),
                }
            ),
            "metrics": MetricRecord({"loss": 0.5, "num-examples": 3}),
            "config": ConfigRecord({"lr": 0.1, "name": "a", "use": True, "key": b"\x00\xff"}),
        }
    ),
    "shapes": RecordDict(
        {
            "arrays": ArrayRecord(
                {
                    "scalar": np.array(7.25, np.float32),
                    "empty": np.zeros((0,), np.float64),
                    "empty-matrix": np.zeros((3, 0, 2), np.int8),
                    "deep": np.arange(4, dtype=np.int16).reshape(1, 2, 1, 2, 1),
                    "last": np.array([1], np.uint8),
                }
            )
        }
    ),
    "dtypes": RecordDict({"arrays": ArrayRecord({d.name: extremes(d) for d in NUMBERS})}),
    "disguised": RecordDict(
        {
            "arrays": ArrayRecord(
                {
                    "complex128": np.array([1 + 2j, -1j]),
                    "text": np.array(["ä", "bc"]),
                    "day": np.array(["2024-02-29"], "datetime64[D]"),
                    "0": np.array([b"xyz"]),
                }
            )
        }
    ),
    "special-floats": RecordDict(
        {
            "arrays": ArrayRecord(
                {"x": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324], np.float64)}
            ),
            "metrics": MetricRecord(
                {
                    "nan": float("nan"),
                    "inf": float("inf"),
                    "-inf": float("-inf"),
                    "zero": -0.0,
                    "least": 5e-324,
                    "most": 1.7976931348623157e308,
                    "whole": 3.0,
                    "small": 0.0001,
                    "smaller": 0.00001234,
                    "large": 1234567890123456.0,
                    "larger": 1e16,
                    "list": [0.1, float("nan"), 1e22, -2.5e-7],
                }
            ),
        }
    ),
    "integers": RecordDict(
        {
            "metrics": MetricRecord(
                {
                    "least": -(2**63),
                    "most": 2**64 - 1,
                    "exact": 2**53,
                    "beyond": 2**53 + 1,
                    "below": -(2**53) - 1,
                    "list": [0, -1, 2**63 - 1],
                    "none": [],
                }
            )
        }
    ),
    "names": RecordDict(
        {
            "a/b%c": ArrayRecord({"x/y%2F": np.array([1], np.int32), "": np.array([2], np.int32)}),
            "ünï 🌱": ArrayRecord({"重み": np.array([3], np.int32)}),
            "": MetricRecord({"": 1.0}),
            "10": ConfigRecord({"2": 1, "1": "later", '"\\\n\t\x01\x7f\u2028': "é🌱"}),
            "9": ConfigRecord({"texts": ["a", "b"], "flags": [True, False], "bytes": [b"", b"a"]}),
        }
    ),
}

_RUN = wire.RunInfo(
    run_id="run-1",
    client_app="digits.client_app:app",
    run_config='{"lr": 0.1}',
    seeded=True,
    seed=2**64 - 1,
    app_name="digits",
    app_version="1.0",
)
_OBJECT = wire.Object(hash=HASH, size_bytes=5 * 10**9)

MESSAGES: dict[str, wire.FromNode | wire.ToNode | wire.PushChunk | wire.PullRequest] = {
    "FromNode.hello": wire.FromNode(
        hello=wire.Hello(
            protocol_min=1,
            protocol_max=1,
            software="umbel/0.1.0",
            name="clinic-ä",
            secret=bytes(range(32)),
            tags={"site": "north"},
            capacity=2,
            held=["m-1", "m-2"],
            codecs=["safetensors"],
            compressions=[wire.COMPRESSION_ZSTD, wire.COMPRESSION_NONE],
        )
    ),
    "FromNode.accepted": wire.FromNode(accepted=wire.Accepted(message_id="m-1")),
    "FromNode.reply-body": wire.FromNode(reply=wire.Reply(message_id="m-1", body=_OBJECT)),
    "FromNode.reply-content": wire.FromNode(reply=wire.Reply(message_id="m-1", content=b"{}")),
    "FromNode.reply-codec": wire.FromNode(
        reply=wire.Reply(message_id="m-1", body=_OBJECT, codec="cbor")
    ),
    "FromNode.reply-failure": wire.FromNode(
        reply=wire.Reply(
            message_id="m-1",
            failure=wire.Failure(code=2, kind="ValueError", reason="data is empty"),
        )
    ),
    "FromNode.heartbeat": wire.FromNode(heartbeat=wire.Heartbeat(sent_at=1.5e9)),
    "ToNode.welcome": wire.ToNode(
        welcome=wire.Welcome(
            protocol=1,
            node_id=2**63,
            software="umbel/0.1.0 python/3.11",
            heartbeat_s=15.0,
            server_time_s=1.5e9,
            codec="safetensors",
            compression=wire.COMPRESSION_ZSTD,
        )
    ),
    "ToNode.task": wire.ToNode(
        task=wire.Task(
            message_id="m-1",
            run=_RUN,
            message_type="train",
            group_id="1",
            created_at=1.5e9,
            ttl_s=60.0,
            body=_OBJECT,
            records=b"".join(encode(CONTENTS["integers"])),
        )
    ),
    "ToNode.task-codec": wire.ToNode(
        task=wire.Task(
            message_id="m-2",
            run=_RUN,
            message_type="evaluate",
            body=_OBJECT,
            records=b"".join(codec_of("cbor").encode(CONTENTS["integers"])),
            codec="cbor",
        )
    ),
    "ToNode.ack": wire.ToNode(ack=wire.Ack(message_id="m-1")),
    "ToNode.cancel": wire.ToNode(cancel=wire.Cancel(message_id="m-1", reason="too late")),
    "ToNode.run-over": wire.ToNode(run_over=wire.RunOver(run_id="run-1", final=True)),
    "ToNode.goodbye": wire.ToNode(goodbye=wire.Goodbye(reason="shutting down")),
    "PushChunk.first": wire.PushChunk(
        object=_OBJECT, chunk=wire.Chunk(offset=2**32, data=b"abc", compression=0)
    ),
    "PullRequest.resumed": wire.PullRequest(
        object=_OBJECT, offset=2**32 + 1, accepts=[wire.COMPRESSION_NONE]
    ),
}


CODECS = ["safetensors", "cbor"]


def content_file(name: str, codec: str) -> Path:
    return FOLDER / "contents" / f"{name}.{codec}"


def message_file(name: str) -> Path:
    return FOLDER / "wire" / f"{name}.bin"


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", CONTENTS)
def test_the_codec_writes_and_reads_the_golden_bytes(name: str, codec: str) -> None:
    golden, form = content_file(name, codec).read_bytes(), codec_of(codec)
    assert b"".join(form.encode(CONTENTS[name])) == golden
    # Whatever is not equal to itself, such as NaN, is compared by what is written again.
    assert b"".join(form.encode(form.decode(golden))) == golden


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_of_the_wire_are_the_golden_bytes(name: str) -> None:
    golden = message_file(name).read_bytes()
    message = MESSAGES[name]
    assert message.SerializeToString(deterministic=True) == golden
    assert type(message).FromString(golden) == message


def test_no_golden_file_is_left_over() -> None:
    known = {content_file(name, codec) for name in CONTENTS for codec in CODECS}
    known |= {message_file(name) for name in MESSAGES}
    assert {*FOLDER.glob("contents/*"), *FOLDER.glob("wire/*")} == known


if __name__ == "__main__":
    for codec in CODECS:
        for name, content in CONTENTS.items():
            content_file(name, codec).write_bytes(b"".join(codec_of(codec).encode(content)))
    for name, message in MESSAGES.items():
        message_file(name).write_bytes(message.SerializeToString(deterministic=True))
