"""When a node is open, in its owner's time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_WINDOW = re.compile(
    r"(?P<first>[a-z]{3})(-(?P<last>[a-z]{3}))? "
    r"(?P<from>\d\d:\d\d)-(?P<until>\d\d:\d\d)"
)
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """Hours that begin on some days; ``until`` may lie on the day after.

    Attributes
    ----------
    days : frozenset of int
        Days on which it begins; 0 is Monday.
    begin, end : int
        Minutes after midnight; ``end`` is greater than ``begin`` and may be beyond 24 hours.
    """

    days: frozenset[int]
    begin: int
    end: int

    def covers(self, day: int, minute: int) -> bool:
        """Whether the window is open at a minute of a day."""
        today = day in self.days and self.begin <= minute < self.end
        late = minute + _DAY_MINUTES
        return today or ((day - 1) % 7 in self.days and self.begin <= late < self.end)


@dataclass(frozen=True, slots=True)
class OpeningHours:
    """The hours in which a node answers.

    Attributes
    ----------
    time_zone : ZoneInfo
        Where the clock hangs.
    open : tuple of (str, Window)
        As written, and as read.

    Examples
    --------
    >>> hours = OpeningHours(time_zone("UTC"), (window("mon-fri 20:00-06:00"),))
    >>> hours.is_open(0.0)  # Thursday, 1 January 1970, 00:00
    True
    >>> hours.is_open(6 * 3600.0)
    False
    """

    time_zone: ZoneInfo
    open: tuple[tuple[str, Window], ...]

    def is_open(self, at: float) -> bool:
        """Whether the node answers at a moment, in seconds since the Unix epoch."""
        local = datetime.fromtimestamp(at, self.time_zone)
        minute = local.hour * 60 + local.minute
        return any(window.covers(local.weekday(), minute) for _, window in self.open)

    def __str__(self) -> str:
        return f"{', '.join(written for written, _ in self.open)} ({self.time_zone})"


def time_zone(value: Any) -> ZoneInfo:
    """Read the name of a time zone."""
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ValueError(
            'the name of a time zone that this machine knows, such as "Europe/Berlin" or "UTC" '
            "(pip install tzdata brings them all)"
        ) from None


def window(value: Any) -> tuple[str, Window]:
    """Read a window, such as ``"mon-fri 20:00-06:00"``."""
    match = _WINDOW.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('days and hours, such as "mon-fri 20:00-06:00" or "sun 00:00-24:00"')
    first, last = match["first"], match["last"] or match["first"]
    if first not in DAYS or last not in DAYS:
        raise ValueError(f"made of days {', '.join(DAYS)}")
    begin, end = _minutes(match["from"]), _minutes(match["until"])
    if begin == end:
        raise ValueError("a time that passes: the whole day is 00:00-24:00")
    start, count = DAYS.index(first), (DAYS.index(last) - DAYS.index(first)) % 7 + 1
    days = frozenset((start + step) % 7 for step in range(count))
    return value, Window(days, begin, end if end > begin else end + _DAY_MINUTES)


def _minutes(written: str) -> int:
    hours, minutes = map(int, written.split(":"))
    total = hours * 60 + minutes
    if minutes > 59 or total > _DAY_MINUTES:
        raise ValueError("made of times between 00:00 and 24:00")
    return total
