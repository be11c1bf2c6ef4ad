from __future__ import annotations

import os
import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import raise_open_files_limit
from umbel.simulation.segments import (
    Segment,
    SegmentPool,
    SegmentReader,
    open_segment,
)

BODIES = st.lists(st.binary(max_size=300), max_size=8)


def open_fds():
    return len(os.listdir("/proc/self/fd"))


@given(st.lists(BODIES, max_size=5))
def test_what_is_written_is_read(bodies):
    before = open_fds()
    segment = Segment()
    for body in bodies:  # each over the one before, which may have been longer
        size = segment.write(body)
        assert size == sum(map(len, body))
        assert os.pread(segment.fd, size, 0) == b"".join(body)
    assert segment.capacity == max([sum(map(len, body)) for body in bodies], default=0)
    segment.close()
    assert open_fds() == before


@pytest.mark.parametrize("again", [False, True])
def test_thousands_of_buffers_and_large_ones(again):
    """Into new memory, and over what was written before."""
    buffers = [memoryview(bytes([i % 256]) * (i % 7)) for i in range(3000)]
    buffers.append(memoryview(np.arange(1 << 20, dtype=np.uint32)).cast("B"))
    segment = Segment()
    if again:
        segment.write([bytes(1 << 23)])
    size = segment.write(buffers)
    assert bytes(SegmentReader().open(0, os.dup(segment.fd), size)) == b"".join(buffers)
    segment.close()


def test_what_is_opened_is_read_only_and_outlives_the_descriptor():
    segment = Segment()
    size = segment.write([b"a" * 5000])
    opened = SegmentReader().open(0, os.dup(segment.fd), size)
    segment.close()
    assert opened.readonly
    assert bytes(opened) == b"a" * 5000


@pytest.mark.parametrize("keep", [lambda m: m[8:], lambda m: np.ndarray(3, np.uint8, m[8:])])
def test_a_reader_tells_whether_anything_is_kept(keep):
    """A part of the memory, or an array over it."""
    before = open_fds()
    reader, segment = SegmentReader(), Segment()
    for body in (b"a" * 50, b"b" * 5000, b"c" * 20):
        kept = keep(reader.open(7, os.dup(segment.fd), segment.write([body])))
        if len(body) == 20:
            assert not reader.release(7)
            assert bytes(kept)[:3] == b"ccc"
        else:
            del kept
            assert reader.release(7)
    segment.close()
    del kept
    assert open_fds() == before


@given(st.lists(st.tuples(st.integers(1, 5000), st.booleans()), max_size=40))
def test_a_pool_never_writes_what_somebody_reads(steps):
    before = open_fds()
    pool = SegmentPool()
    read: list[tuple[Segment, bytes]] = []
    for number, (size, give_back) in enumerate(steps):
        body = bytes([number % 256]) * size
        segment, written = pool.write([body])
        assert written == size
        read.append((segment, body))
        assert len({segment.fd for segment, _ in read}) == len(read)
        assert all(os.pread(s.fd, len(b), 0) == b for s, b in read)
        if give_back:
            pool.give_back(read.pop(0)[0])
    pool.close()
    for segment, _ in read:
        segment.close()
    assert open_fds() == before


def test_a_pool_uses_the_smallest_that_fits_again():
    pool = SegmentPool()
    small, large = pool.write([bytes(10)])[0], pool.write([bytes(1000)])[0]
    pool.give_back(large)
    pool.give_back(small)
    assert pool.write([bytes(5)])[0] is small
    assert pool.write([bytes(2000)])[0] is large
    for segment in (small, large):
        segment.close()


@pytest.mark.parametrize("short_of_descriptors", [False, True])
def test_open_segment_reads_the_same_when_descriptors_run_short(short_of_descriptors):
    before = open_fds()
    segment = Segment()
    body = os.urandom(300_000)
    size = segment.write([body])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if short_of_descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * segment.fd, hard))
    try:
        opened = open_segment(os.dup(segment.fd), size)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert bytes(opened) == body
    assert opened.readonly
    segment.close()
    assert open_fds() == before + (not short_of_descriptors)
    del opened
    assert open_fds() == before


def test_the_limit_of_open_files_is_raised():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        raise_open_files_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
