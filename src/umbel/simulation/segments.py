"""Shared memory without a name: nothing is left behind, whoever is killed.

A segment is an anonymous file in memory. It is written straight from the buffers of a message body,
and its descriptor travels over a Unix socket; the reader maps it. Fresh memory costs several times
as much as used memory, to write and to map, so segments and mappings are used again.
"""

from __future__ import annotations

import itertools
import mmap
import os
import resource
import tempfile
import weakref
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from umbel.base import PARALLEL_MIN_BYTES, for_each
from umbel.simulation.tasks import Buffers

INLINE_MAX_BYTES = 64 * 1024
"""Bodies up to this size travel through the socket itself."""

_BUFFERS_MAX = 512
_KEPT_MAX = 8


class Segment:
    """Shared memory that grows to what is written to it.

    Attributes
    ----------
    number : int
        What its writer calls it.
    """

    def __init__(self, number: int = -1) -> None:
        self.number = number
        if hasattr(os, "memfd_create"):
            self.fd = os.memfd_create("umbel", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self.fd = os.dup(file.fileno())
        self.capacity = 0
        self._mapped: mmap.mmap | None = None

    def write(self, buffers: Buffers) -> int:
        """Write the buffers one after the other and return how many bytes they are."""
        views = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
        size = sum(map(len, views))
        # System calls are the quicker way into new memory, and copying into old.
        put = self._copy if 0 < size <= self.capacity else self._write
        if size < PARALLEL_MIN_BYTES:
            put(views, 0)
        else:
            ends = list(itertools.accumulate(map(len, views)))
            parts = [([view], end - len(view)) for view, end in zip(views, ends, strict=True)]
            for_each(lambda part: put(*part), parts, size)
        if size > self.capacity:
            self.capacity, self._mapped = size, None
        return size

    def close(self) -> None:
        """Give the memory back, once nobody maps it any more."""
        self._mapped = None
        os.close(self.fd)

    def _write(self, views: list[memoryview], offset: int) -> None:
        while views:
            written = os.pwritev(self.fd, views[:_BUFFERS_MAX], offset)
            offset += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]

    def _copy(self, views: list[memoryview], offset: int) -> None:
        if self._mapped is None:
            self._mapped = mmap.mmap(self.fd, self.capacity)
        whole = np.frombuffer(self._mapped, np.uint8)
        for view in views:
            whole[offset : offset + len(view)] = np.frombuffer(view, np.uint8)
            offset += len(view)


class SegmentPool:
    """The segments of one writer, each used again once nobody reads it.

    Attributes
    ----------
    closed : list of int
        The numbers of segments given up since this was last emptied; readers should hear of them.
    """

    def __init__(self) -> None:
        self.closed: list[int] = []
        self._free: list[Segment] = []
        self._numbers = itertools.count()

    def write(self, buffers: Buffers) -> tuple[Segment, int]:
        """Write buffers to a segment that nobody reads; return it and their size."""
        size = sum(len(buffer) for buffer in buffers)
        fitting = [s for s in self._free if s.capacity >= size]
        chosen = min(fitting, key=lambda s: s.capacity) if fitting else None
        if chosen is None and self._free:
            chosen = max(self._free, key=lambda s: s.capacity)
        if chosen is not None:
            self._free.remove(chosen)
        segment = chosen or Segment(next(self._numbers))
        return segment, segment.write(buffers)

    def give_back(self, segment: Segment) -> None:
        """Take back a segment that nobody reads any more."""
        self._free.append(segment)
        if len(self._free) > _KEPT_MAX:
            smallest = min(self._free, key=lambda s: s.capacity)
            self._free.remove(smallest)
            self.give_up(smallest)

    def give_up(self, segment: Segment) -> None:
        """Let go of a segment that somebody may read for ever."""
        self.closed.append(segment.number)
        segment.close()

    def close(self) -> None:
        """Give all memory back."""
        while self._free:
            self._free.pop().close()


class SegmentReader:
    """The segments of one writer as one reader maps them.

    A mapping is kept from one use to the next: to map memory anew costs as much as to read it.
    """

    def __init__(self) -> None:
        self._maps: dict[int, mmap.mmap] = {}
        self._uses: dict[int, weakref.ref[NDArray[np.uint8]]] = {}

    def open(self, number: int, fd: int, size: int) -> memoryview:
        """Return what is in a segment, and close the descriptor."""
        mapped = self._maps.get(number)
        try:
            if mapped is None or len(mapped) < size:
                length = os.fstat(fd).st_size
                mapped = self._maps[number] = mmap.mmap(fd, length, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        # Whoever refers to any of it, refers to this array, which therefore tells.
        use = np.frombuffer(mapped, np.uint8, size)
        self._uses[number] = weakref.ref(use)
        return use.data

    def release(self, number: int) -> bool:
        """Return whether nothing refers any more to what was opened last.

        If something does, its memory must stay as it is, and the mapping is left to it.
        """
        free = self._uses.pop(number)() is None
        if not free:
            self.forget([number])
        return free

    def forget(self, numbers: Iterable[int]) -> None:
        """Give up the mappings of segments that their writer has given up."""
        for number in numbers:
            self._maps.pop(number, None)


def open_segment(fd: int, size: int) -> memoryview:
    """Return what is in a segment that nobody will write again, and close the descriptor.

    It is mapped; but a mapping holds a descriptor, so once half of those that the process may have
    are in use, it is read into private memory instead.
    """
    try:
        # Descriptors are given out from the lowest, so that the number says how many there are.
        if 2 * fd < resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
            return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_READ))
        body = memoryview(bytearray(size))
        done = 0
        while done < size and (got := os.preadv(fd, [body[done:]], done)):
            done += got
        return body.toreadonly()
    finally:
        os.close(fd)
