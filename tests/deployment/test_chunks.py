from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import ProtocolError
from umbel.deployment.chunks import Chunk, read_chunk, read_push, write_chunk, write_push
from umbel.deployment.wire import umbel_pb2 as wire

GOLDEN = Path(__file__).parents[1] / "golden" / "wire" / "PushChunk.first.bin"

chunks = st.builds(
    Chunk,
    offset=st.integers(0, 2**63 - 1),
    data=st.binary(max_size=300),
    compression=st.sampled_from([wire.COMPRESSION_NONE, wire.COMPRESSION_ZSTD]),
)
items = st.none() | st.builds(wire.Object, hash=st.text(max_size=70), size_bytes=st.integers(0, 99))


@given(chunks, items)
def test_the_bytes_are_those_that_protobuf_writes(chunk, item):
    same = wire.Chunk(**chunk._asdict())
    assert write_chunk(chunk) == same.SerializeToString()
    assert write_push(item, chunk) == wire.PushChunk(object=item, chunk=same).SerializeToString()


@given(chunks, items)
def test_what_is_written_is_read(chunk, item):
    assert read_chunk(write_chunk(chunk)) == chunk
    assert read_push(write_push(item, chunk)) == (item or wire.Object(), chunk)


def test_the_data_is_not_copied():
    raw = write_push(None, Chunk(0, bytes(1000)))
    _, chunk = read_push(raw)
    assert chunk.data.obj is raw


@given(st.binary(max_size=40))
def test_any_bytes_are_read_as_protobuf_reads_them(raw):
    try:
        expected = wire.PushChunk.FromString(raw)
    except Exception:
        with pytest.raises(ProtocolError, match="no message of the wire"):
            read_push(raw)
        return
    item, chunk = read_push(raw)
    assert item == expected.object
    assert wire.Chunk(offset=chunk.offset, data=bytes(chunk.data)) == wire.Chunk(
        offset=expected.chunk.offset, data=expected.chunk.data
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"\x12\x01a\x12\x01b",  # a field twice: the last one counts
        b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\x12\x01b",  # a number of ten bytes
        b"\x12\x01b\x08\x05",  # in another order
        b"\x12\x01b\x7a\x02hi",  # with a field of a later version
    ],
)
def test_other_encodings_of_a_chunk_are_read_too(raw):
    expected = wire.Chunk.FromString(raw)
    assert read_chunk(raw)[:2] == (expected.offset, expected.data)


def test_the_golden_bytes_are_written_and_read():
    raw = GOLDEN.read_bytes()
    item, chunk = read_push(raw)
    assert (chunk.offset, bytes(chunk.data)) == (2**32, b"abc")
    assert write_push(item, chunk) == raw
