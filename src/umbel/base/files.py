"""Files as bytes: read without being copied, written and hashed in one pass, kept by the disk."""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO


def mapped(path: Path) -> memoryview:
    """Return the bytes of a file, which are read when they are looked at; they outlive its name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a").write_bytes(b"abc")
    ...     bytes(mapped(Path(folder) / "a"))
    b'abc'
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")  # which cannot be mapped
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def write_hashed(
    file: IO[bytes], buffers: Iterable[bytes | bytearray | memoryview]
) -> tuple[int, str]:
    """Write the buffers, one after the other; return how many bytes, and their SHA-256.

    Examples
    --------
    >>> import io
    >>> write_hashed(io.BytesIO(), [b"ab", b"c"])
    (3, 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
    """
    digest, size = hashlib.sha256(), 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        digest.update(view)
        size += len(view)
        write_all(file, [view])
    return size, digest.hexdigest()


def write_all(file: IO[bytes], buffers: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write the buffers, one after the other, to a file that may take a part at a time."""
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        while view:
            view = view[file.write(view) :]


def sync(path: Path) -> None:
    """Have the disk keep a file's content, or the names in a folder after one of them changed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sync(Path(folder))
    """
    if sys.platform == "win32" and path.is_dir():
        return  # Windows keeps names by itself
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
