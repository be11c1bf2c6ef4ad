"""An asyncio loop in a thread of its own, for callers that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import wait
from typing import Any, Self, TypeVar

T = TypeVar("T")

_LOOK_S = 0.2
"""A signal that comes just before a thread waits for a lock is noticed when the wait is over."""


class LoopThread:
    """Runs coroutines for code without asyncio, which may itself run inside a loop.

    Examples
    --------
    >>> with LoopThread() as loop:
    ...     loop.call(asyncio.sleep(0, "slept"))
    'slept'
    """

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="umbel-loop", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Cancel what is still running, and wait until it has ended."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and return its result when it has one.

        If the waiting is interrupted, say by Ctrl-C, the coroutine is cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not future.done():
                wait((future,), _LOOK_S)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._wait())

    async def _wait(self) -> None:
        await self._ended.wait()
