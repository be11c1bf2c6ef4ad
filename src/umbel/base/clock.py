"""Time as an argument: the only file besides ``seeds`` that may touch the machine's clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of the code may ask about time."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin that never go back; the same for all processes."""

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass."""


class SystemClock(Clock):
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class VirtualClock(Clock):
    """A clock that moves only when it is told to, for tests that never wait.

    Examples
    --------
    >>> clock = VirtualClock(start=100.0)
    >>> clock.sleep(2.5)
    >>> clock.now(), clock.monotonic()
    (102.5, 102.5)
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the clock forward by ``seconds``."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back: {seconds} s")
        self._now += seconds


SYSTEM_CLOCK: Clock = SystemClock()
