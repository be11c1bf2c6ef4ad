"""How much is pushed at once: whoever is about to push is answered when there is room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_MAX_BYTES = 256 * 1024 * 1024
_SHARE_MAX_BYTES = 8 * 1024 * 1024
"""What a push takes at most, however large its object: about what gRPC reads ahead of us."""

_SLOW_BYTES_S = 4_000_000
_SLOW_SHARE_BYTES = 1024 * 1024
"""What a push takes that brings less than this in a second: we are faster, and nothing piles up."""

_SLOW_AFTER_S = 1.0
_BEGIN_S = 30.0
"""A push that has not begun by then gives its room to others."""

Key = tuple[str, str]
"""A connection, and the name of an object."""


class Intake:
    """Bounds the memory that pushes take, without a bound on the speed of each.

    gRPC reads ahead of us, over a long link some MB, of every push that has begun. So a push is
    held back before it begins: the answer to its `Stat` waits for room, first come, first served.

    Parameters
    ----------
    max_bytes : int, optional
        The room.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._free = max_bytes
        self._admitted: dict[Key, tuple[int, asyncio.TimerHandle]] = {}
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    async def admit(self, key: Key, size_bytes: int) -> None:
        """Return when there is room for a push of so many bytes; it is kept for a while."""
        share = await self._room_for(key, size_bytes)
        self.drop(key)  # of another who asked for the same meanwhile
        timer = asyncio.get_running_loop().call_later(_BEGIN_S, self.drop, key)
        self._admitted[key] = share, timer

    @asynccontextmanager
    async def taking(self, key: Key, size_bytes: int) -> AsyncIterator[Callable[[int], None]]:
        """Let a push have its room while the block runs; one that never asked waits for it here.

        The block tells how many bytes have come so far; a slow push leaves room to others.
        """
        share = await self._room_for(key, size_bytes)
        clock = asyncio.get_running_loop().time
        begun = clock()

        def have_come(count: int) -> None:
            nonlocal share
            seconds = clock() - begun
            is_slow = seconds >= _SLOW_AFTER_S and count < _SLOW_BYTES_S * seconds
            if is_slow and share > _SLOW_SHARE_BYTES:
                spare, share = share - _SLOW_SHARE_BYTES, _SLOW_SHARE_BYTES
                self._leave(spare)

        try:
            yield have_come
        finally:
            self._leave(share)

    async def _room_for(self, key: Key, size_bytes: int) -> int:
        share = min(size_bytes, _SHARE_MAX_BYTES)
        admitted = self._withdraw(key)
        if admitted is not None and admitted >= share:
            return admitted
        self._leave(admitted or 0)  # it asked for less than it brings, or not at all
        if not self._waiting and share <= self._free:
            self._free -= share
            return share
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, share))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had come already
                self._leave(share)
            raise
        return share

    def drop(self, key: Key) -> None:
        """Give the room of a push that has not begun to others."""
        self._leave(self._withdraw(key) or 0)

    def _withdraw(self, key: Key) -> int | None:
        share, timer = self._admitted.pop(key, (None, None))
        if timer is not None:
            timer.cancel()
        return share

    def _leave(self, share: int) -> None:
        self._free += share
        while self._waiting:
            turn, wanted = self._waiting[0]
            if not turn.cancelled():
                if wanted > self._free:
                    return
                self._free -= wanted
                turn.set_result(None)
            self._waiting.popleft()
