"""The state of every node, in bounded memory."""

from __future__ import annotations

import shutil
import tempfile
from collections import OrderedDict
from pathlib import Path

from umbel.simulation.tasks import Bytes

MEMORY_MAX_BYTES = 256 * 1024 * 1024
"""How many bytes of node state are held in memory; what exceeds it lies on disk."""


class StateStore:
    """Encoded node states by node id; those not used for the longest time spill to disk.

    Parameters
    ----------
    max_bytes : int
        How many bytes to hold in memory.

    Examples
    --------
    >>> store = StateStore(max_bytes=8)
    >>> store.put(1, b"abcdef"); store.put(2, b"ghijkl")
    >>> bytes(store.get(1)), bytes(store.get(2)), store.get(3)
    (b'abcdef', b'ghijkl', None)
    >>> store.close()
    """

    def __init__(self, max_bytes: int = MEMORY_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[int, Bytes] = OrderedDict()
        self._held_bytes = 0
        self._spilled: set[int] = set()
        self._folder: Path | None = None

    def get(self, node_id: int) -> Bytes | None:
        """Return a node's state, or ``None`` if it has none."""
        state = self._held.get(node_id)
        if state is not None:
            self._held.move_to_end(node_id)
            return state
        if node_id in self._spilled:
            return self._file(node_id).read_bytes()
        return None

    def put(self, node_id: int, state: Bytes | None) -> None:
        """Keep a node's state; ``None`` forgets it."""
        old = self._held.pop(node_id, None)
        if old is not None:
            self._held_bytes -= len(old)
        if node_id in self._spilled:
            self._spilled.discard(node_id)
            self._file(node_id).unlink()
        if state is None:
            return
        self._held[node_id] = state
        self._held_bytes += len(state)
        while self._held_bytes > self._max_bytes:
            oldest, body = self._held.popitem(last=False)
            self._held_bytes -= len(body)
            self._file(oldest).write_bytes(body)
            self._spilled.add(oldest)

    def node_ids(self) -> list[int]:
        """Return the nodes that have a state, in rising order."""
        return sorted([*self._held, *self._spilled])

    def close(self) -> None:
        """Forget everything and remove what lies on disk."""
        self._held.clear()
        self._spilled.clear()
        self._held_bytes = 0
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _file(self, node_id: int) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="umbel-states-"))
        # Few files a folder: file systems dislike a hundred thousand in one.
        folder = self._folder / f"{node_id % 256:02x}"
        folder.mkdir(exist_ok=True)
        return folder / str(node_id)
