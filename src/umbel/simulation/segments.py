"""Shared memory without a name: nothing is left behind, whoever is killed.

A segment is an anonymous file in memory. It is written with ``pwritev``, straight from the buffers
of a message body, and its descriptor travels over a Unix socket; the reader maps it. Writing to
fresh memory costs several times as much as writing to used memory, so segments are used again.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import resource
import tempfile

from umbel.base import PARALLEL_MIN_BYTES, for_each
from umbel.simulation.tasks import Buffers

INLINE_MAX_BYTES = 64 * 1024
"""Bodies up to this size travel through the socket itself."""

_BUFFERS_MAX = 512
_KEPT_MAX = 8


class Segment:
    """Shared memory that grows to what is written to it."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.fd = os.memfd_create("umbel", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self.fd = os.dup(file.fileno())
        self.capacity = 0

    def write(self, buffers: Buffers) -> int:
        """Write the buffers one after the other and return how many bytes they are."""
        views = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
        size = sum(map(len, views))
        if size < PARALLEL_MIN_BYTES:
            self._write(views, 0)
        else:
            ends = list(itertools.accumulate(map(len, views)))
            parts = [([view], end - len(view)) for view, end in zip(views, ends, strict=True)]
            for_each(lambda part: self._write(*part), parts, size)
        self.capacity = max(self.capacity, size)
        return size

    def _write(self, views: list[memoryview], offset: int) -> None:
        while views:
            written = os.pwritev(self.fd, views[:_BUFFERS_MAX], offset)
            offset += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]

    def close(self) -> None:
        """Give the memory back, once nobody maps it any more."""
        os.close(self.fd)


class SegmentPool:
    """Segments that are not in use, the smallest that fits first."""

    def __init__(self) -> None:
        self._free: list[Segment] = []

    def write(self, buffers: Buffers) -> tuple[Segment, int]:
        """Write buffers to a segment that nobody reads; return it and their size."""
        size = sum(len(buffer) for buffer in buffers)
        fitting = [s for s in self._free if s.capacity >= size]
        chosen = min(fitting, key=lambda s: s.capacity) if fitting else None
        if chosen is None and self._free:
            chosen = max(self._free, key=lambda s: s.capacity)
        if chosen is not None:
            self._free.remove(chosen)
        segment = chosen or Segment()
        return segment, segment.write(buffers)

    def give_back(self, segment: Segment) -> None:
        """Take back a segment that nobody reads any more."""
        self._free.append(segment)
        if len(self._free) > _KEPT_MAX:
            smallest = min(self._free, key=lambda s: s.capacity)
            self._free.remove(smallest)
            smallest.close()

    def close(self) -> None:
        """Give all memory back."""
        while self._free:
            self._free.pop().close()


def map_segment(fd: int, size: int) -> mmap.mmap:
    """Map a segment for reading and close the descriptor."""
    try:
        return mmap.mmap(fd, size, access=mmap.ACCESS_READ)
    finally:
        os.close(fd)


def open_segment(fd: int, size: int) -> memoryview:
    """Return what is in a segment that nobody will write again, and close the descriptor.

    It is mapped; but a mapping holds a descriptor, so once half of those that the process may have
    are in use, it is read into private memory instead.
    """
    # Descriptors are given out from the lowest, so that the number says how many there are.
    if 2 * fd < resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        return memoryview(map_segment(fd, size))
    try:
        body = memoryview(bytearray(size))
        done = 0
        while done < size and (got := os.preadv(fd, [body[done:]], done)):
            done += got
        return body.toreadonly()
    finally:
        os.close(fd)


def raise_open_files_limit() -> None:
    """Let this process and those it starts open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls it infinite, and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
