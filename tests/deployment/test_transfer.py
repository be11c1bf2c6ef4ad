import pytest

from umbel.base import ProtocolError
from umbel.deployment.transfer import CHUNK_BYTES, packer, unpacked
from umbel.deployment.wire import umbel_pb2 as wire

ZSTD = wire.COMPRESSION_ZSTD


def test_a_chunk_that_does_not_shrink_travels_as_it_is():
    data = bytes(range(256))
    assert packer(ZSTD)(data) == (data, wire.COMPRESSION_NONE)


@pytest.mark.parametrize("compression", [wire.COMPRESSION_NONE, ZSTD])
def test_a_chunk_arrives_as_it_was(compression):
    data, used = packer(compression)(b"model" * 1000)
    assert used == compression
    assert unpacked(wire.Chunk(data=data, compression=used)) == b"model" * 1000


def test_a_chunk_that_swells_is_refused_before_it_takes_memory():
    bomb, _ = packer(ZSTD)(bytes(64 * CHUNK_BYTES))
    assert len(bomb) < 10_000
    with pytest.raises(ProtocolError, match="a chunk of 67108864 bytes"):
        unpacked(wire.Chunk(data=bomb, compression=ZSTD))


def test_a_chunk_that_is_no_frame_is_refused():
    with pytest.raises(ProtocolError, match="not the zstd frame"):
        unpacked(wire.Chunk(data=b"noise", compression=ZSTD))


def test_an_unknown_compression_is_refused():
    with pytest.raises(ProtocolError, match="unknown compression 7"):
        unpacked(wire.Chunk(data=b"x", compression=7))
