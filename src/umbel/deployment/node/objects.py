"""What a node has fetched: a bounded cache of objects, named by the SHA-256 of their bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from umbel.base import Overloaded, ProtocolError
from umbel.deployment.transfer import pull
from umbel.deployment.wire import umbel_pb2 as wire

if TYPE_CHECKING:
    from umbel.deployment.wire.umbel_pb2_grpc import ObjectsAsyncStub

_NAME = re.compile(r"[0-9a-f]{64}")
_READ_BYTES = 1024 * 1024


class ObjectCache:
    """Keeps objects until others need their place; those in use stay.

    Parameters
    ----------
    folder : Path
        Where they lie; made when it is missing.
    max_bytes : int
        How much they may take.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._complete, self._partial = folder / "complete", folder / "partial"
        self._max_bytes = max_bytes
        self._used: Counter[str] = Counter()
        self._fetching: dict[str, asyncio.Lock] = {}
        for part in (self._complete, self._partial):
            part.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def held(self, hash: str) -> Iterator[None]:
        """Keep an object while the block runs, from when it is here on."""
        self._used[hash] += 1
        try:
            yield
        finally:
            self._used[hash] -= 1
            if not self._used[hash]:
                del self._used[hash]
                self._fetching.pop(hash, None)

    async def fetch(
        self,
        stub: ObjectsAsyncStub,
        item: wire.Object,
        accepts: Sequence[wire.Compression.ValueType],
    ) -> Path:
        """Return the file with an object, fetched unless it is here; call it while it is held.

        Raises
        ------
        ProtocolError
            Its name is none, or the bytes are not those that it is named by.
        Overloaded
            It does not fit into the cache.
        UmbelError
            What ``pull`` raises.
        """
        name = item.hash
        if not _NAME.fullmatch(name):
            raise ProtocolError(f"{name[:100]!r} does not name an object")
        async with self._fetching.setdefault(name, asyncio.Lock()):
            if self.size(name) is None:
                self._make_room(item)
                await pull(stub, item, self, accepts=accepts)
        path = self._complete / name
        os.utime(path)
        return path

    def size(self, hash: str, /) -> int | None:
        """Return the size of a complete object, or None."""
        try:
            return (self._complete / hash).stat().st_size
        except FileNotFoundError:
            return None

    def offset(self, hash: str, /) -> int:
        """Return how many bytes of an incomplete object are here."""
        try:
            return (self._partial / hash).stat().st_size
        except FileNotFoundError:
            return 0

    def write(self, hash: str, offset: int, data: bytes, /) -> None:
        """Add bytes to an incomplete object."""
        with (self._partial / hash).open("ab") as file:
            if file.tell() != offset:
                raise ProtocolError(f"bytes at offset {offset}, where {file.tell()} comes next")
            file.write(data)

    def finish(self, hash: str, size_bytes: int, /) -> None:
        """Check an object's hash and give it its place.

        Raises
        ------
        ProtocolError
            Its hash is not its name; what there was is deleted.
        """
        path = self._partial / hash
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while data := file.read(_READ_BYTES):
                digest.update(data)
        if digest.hexdigest() != hash:
            path.unlink()
            raise ProtocolError(
                "an object's bytes are not those that it is named by",
                hint="if it comes again, the server's store or the connection is damaged",
                object=hash[:12],
                size_bytes=size_bytes,
            )
        os.replace(path, self._complete / hash)

    def _make_room(self, item: wire.Object) -> None:
        """Delete what has not been used for longest, until the object fits."""
        files = [path for part in (self._complete, self._partial) for path in part.iterdir()]
        stats = {path: path.stat() for path in files}
        total = sum(s.st_size for s in stats.values()) - self.offset(item.hash)
        for path in sorted(files, key=lambda p: stats[p].st_mtime_ns):
            if total + item.size_bytes <= self._max_bytes:
                return
            if path.name not in self._used:
                path.unlink()
                total -= stats[path].st_size
        if total + item.size_bytes > self._max_bytes:
            raise Overloaded(
                f"an object of {item.size_bytes} bytes does not fit into this node's cache of "
                f"{self._max_bytes} bytes",
                hint="give the node a larger cache",
            )
