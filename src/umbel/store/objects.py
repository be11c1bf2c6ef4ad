"""Objects on disk, named by the SHA-256 of their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Objects(Protocol):
    """What the shell may ask of an object store; `ObjectStore(folder, max_bytes)` is the one."""

    def size(self, hash: str) -> int | None:
        """Return the size in bytes of a complete object, or None."""

    def touch(self, hash: str) -> bool:
        """Mark a complete object as just used; False if it is not there."""

    def offset(self, hash: str) -> int:
        """Return how many bytes of a partial upload are kept: where the next write goes on."""

    def write(self, hash: str, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Append to a partial upload.

        Raises
        ------
        StoreFull
            If the object would go over the store's bound, or the disk is full.
        """

    def finish(self, hash: str, size_bytes: int) -> Path:
        """Check the size and the hash of an upload, give it its name, return its path."""

    def path(self, hash: str) -> Path:
        """Return where a complete object lies, whether or not it is there."""

    def put_file(self, path: Path, hash: str) -> Path:
        """Take over a complete file whose hash is known (hard link, or rename)."""

    def delete(self, hash: str, idle_s: float = 0.0) -> bool:
        """Delete an object unless it was used in the last `idle_s` seconds."""

    def total_bytes(self) -> int:
        """Return how much the objects and the partial uploads take."""
