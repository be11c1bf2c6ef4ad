"""Files read as memory, without the memory: pages that have been read are let go of."""

from __future__ import annotations

import mmap
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from weakref import WeakSet

from umbel.base import write_all

_EVERY_S = 0.005
_WORTH_BYTES = 16 * 1024 * 1024


class MappedFiles:
    """Opens files as memory, and can keep what is resident of them small while they are read."""

    def __init__(self) -> None:
        self._open: WeakSet[mmap.mmap] = WeakSet()

    def open(self, path: Path) -> memoryview:
        """Return the bytes of a file, which are read from it when they are looked at."""
        with path.open("rb") as file:
            if not path.stat().st_size:
                return memoryview(b"")  # nothing cannot be mapped
            return self._map(file)

    def hold(self, buffers: Iterable[bytes | memoryview], folder: Path) -> memoryview:
        """Return the bytes of the buffers, out of memory: in a nameless file in the folder."""
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            write_all(file, buffers)
            return self._map(file)

    def _map(self, file: IO[bytes]) -> memoryview:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        if len(mapping) >= _WORTH_BYTES:
            self._open.add(mapping)
        return memoryview(mapping)

    @contextmanager
    def let_go(self) -> Iterator[None]:
        """Within this, pages of open files do not stay resident for long after they were read.

        What is needed again is found in the kernel's cache.
        """
        if not self._open:
            yield
            return
        done = threading.Event()
        thread = threading.Thread(target=self._let_go_until, args=(done,), name="let-go")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _let_go_until(self, done: threading.Event) -> None:
        while not done.wait(_EVERY_S):
            for mapping in list(self._open):
                mapping.madvise(mmap.MADV_DONTNEED)
