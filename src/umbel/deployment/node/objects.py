"""What a node has fetched: a bounded cache of the server's objects on disk."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from umbel.base import ProtocolError, StoreFull
from umbel.deployment.chunks import ObjectsClient
from umbel.deployment.transfer import pull
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.store import ObjectStore

_NAME = re.compile(r"[0-9a-f]{64}")
_KEPT_OF_A_RUN = 2
"""So many bodies of a run are kept: its model, and one that it may go back and forth with."""


class ObjectCache:
    """Keeps objects until their run goes on to others, or others need their place.

    Those that are held stay.

    Parameters
    ----------
    folder : Path
        Where they lie; made when it is missing.
    max_bytes : int
        How much they may take.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        # What a power cut takes is fetched again.
        self._store = ObjectStore(folder, durable=False)
        self._max_bytes = max_bytes
        self._held: Counter[str] = Counter()
        self._recent: dict[str, deque[str]] = {}
        self._fetching: dict[str, asyncio.Lock] = {}

    @contextmanager
    def held(self, hash: str) -> Iterator[None]:
        """Keep an object while the block runs, from when it is here on."""
        self._held[hash] += 1
        try:
            yield
        finally:
            self._held[hash] -= 1
            if not self._held[hash]:
                del self._held[hash]
                self._fetching.pop(hash, None)

    def turn_to(self, run_id: str, hash: str) -> None:
        """Note which body a run works with now, and delete those that it has left behind.

        A file that goes before it was written to the disk costs no writing, and its memory takes
        the next one.
        """
        recent = self._recent.setdefault(run_id, deque())
        if hash in recent:
            recent.remove(hash)
        recent.append(hash)
        while len(recent) > _KEPT_OF_A_RUN:
            self._drop(recent.popleft())

    def forget_run(self, run_id: str) -> None:
        """Delete the bodies of a run."""
        for hash in self._recent.pop(run_id, ()):
            self._drop(hash)

    def _drop(self, hash: str) -> None:
        if not self._held[hash] and not any(hash in recent for recent in self._recent.values()):
            self._store.delete(hash)

    async def fetch(
        self,
        objects: ObjectsClient,
        item: wire.Object,
        accepts: Sequence[wire.Compression.ValueType],
    ) -> Path:
        """Return the file with an object, fetched unless it is here; call it while it is held.

        Raises
        ------
        ProtocolError
            Its name is none, or the bytes are not those that it is named by.
        StoreFull
            It does not fit into the cache.
        UmbelError
            What ``pull`` raises.
        """
        name = item.hash
        if not _NAME.fullmatch(name):
            raise ProtocolError(f"{name[:100]!r} does not name an object")
        async with self._fetching.setdefault(name, asyncio.Lock()):
            if not self._store.touch(name):
                self._make_room(item)
                await pull(objects, item, self._store, accepts=accepts)
        return self._store.path(name)

    def _make_room(self, item: wire.Object) -> None:
        """Delete what has not been used for longest, until the object fits."""
        room = self._max_bytes - (item.size_bytes - self._store.offset(item.hash))
        if self._store.total_bytes() > room:
            self._store.sweep(self._held.__contains__, keep_bytes=max(0, room))
            # What there was of this object may have had to go as well.
            room = self._max_bytes - (item.size_bytes - self._store.offset(item.hash))
        if self._store.total_bytes() > room:
            raise StoreFull(
                f"an object of {item.size_bytes} bytes does not fit into this node's cache of "
                f"{self._max_bytes} bytes",
                hint="give the node a larger cache",
            )
