"""How many files the server has open: each connection is one, and the system sets a limit."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import sys

from umbel.base import Clock, Overloaded

_FOLDER = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
_RESERVE_MAX = 256
_NEAR, _RELIEVED = 0.9, 0.8
_COUNTED_S = 0.25
"""To count takes milliseconds where there are thousands: a figure is good for so long."""

_WATCH_S = 5.0
_HINT = "raise the limit: `ulimit -n`, or LimitNOFILE= in systemd's unit"
_LOGGER = logging.getLogger("umbel.deployment")


class OpenFiles:
    """Lets nodes in as long as files can be opened, and tells the operator before that ends.

    Some are kept for the server's own work: its objects, its journal, the processes that it starts.

    Parameters
    ----------
    clock : Clock
        Says how old a count is.

    Attributes
    ----------
    limit : int
        How many files this process may open.
    """

    def __init__(self, clock: Clock) -> None:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.limit = sys.maxsize if soft == resource.RLIM_INFINITY else soft
        self._room = self.limit - min(_RESERVE_MAX, self.limit // 4)
        self._clock = clock
        self._recount()
        self._told = logging.INFO
        fit = max(0, self._room - self._open)
        _LOGGER.info("%d files may be open: about %d nodes fit", self.limit, fit)

    def _count(self) -> int:
        """Return how many files are open now."""
        try:
            return len(os.listdir(_FOLDER)) - 1  # without the folder itself
        except OSError as error:
            none_left = error.errno in (errno.EMFILE, errno.ENFILE)
            return self.limit if none_left else 0  # who cannot count turns nobody away

    def admit(self) -> None:
        """Count one more connection.

        Raises
        ------
        Overloaded
            There is no room for it.
        """
        self._open += 1
        if reason := self.full():
            raise Overloaded(reason, hint=f"whoever runs the server can {_HINT}")

    def full(self) -> str | None:
        """Say why no more nodes are let in, if none are."""
        if self._clock.monotonic() - self._counted_at > _COUNTED_S:
            self._recount()
        self._tell()
        if self._open <= self._room:
            return None
        return f"{self._open} of the {self.limit} files that the server may open are open"

    async def watch(self) -> None:
        """Look again and again, for ever: where no connection is accepted nobody asks."""
        while True:
            await asyncio.sleep(_WATCH_S)
            self._recount()
            self._tell()

    def _recount(self) -> None:
        self._open, self._counted_at = self._count(), self._clock.monotonic()

    def _tell(self) -> None:
        """Tell the operator what is new."""
        if self._open > self._room:
            level, what = logging.ERROR, "no more nodes are let in, and those connected go on"
        elif self._open > _NEAR * self._room:
            level, what = logging.WARNING, f"about {self._room - self._open} more nodes fit"
        else:
            level, what = logging.INFO, "there is room again"
        relieved = self._open < _RELIEVED * self._room
        if level > self._told or (relieved and self._told > logging.INFO):
            text = f"{self._open} of at most {self.limit} files are open: {what}"
            _LOGGER.log(level, text if level == logging.INFO else f"{text}; {_HINT}")
            self._told = level
