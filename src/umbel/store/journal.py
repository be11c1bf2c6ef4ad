"""A journal: entries that are only ever appended, and read again in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol


class Journal(Protocol):
    """What the shell needs to keep events; a journal knows nothing of their meaning.

    Entries are numbered from 1 without gaps. One writer at a time; not for several threads at
    once. `umbel.testing.journal_checks` yields the checks that every journal passes.
    """

    def append(self, entries: Iterable[bytes]) -> int:
        """Write the entries, all or none, and return the number of the last entry there is.

        They are safe when this returns.
        """

    def read(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield the entries behind number `after`, with their numbers, in order.

        Raises
        ------
        JournalCorrupt
            If an entry is missing or damaged.
        """

    def snapshot(self, seq: int, data: bytes) -> None:
        """Keep what the entries up to `seq` amount to, and drop them and earlier snapshots."""

    def latest_snapshot(self) -> tuple[int, bytes] | None:
        """Return the last snapshot with the number of the last entry in it, or None."""

    def close(self) -> None:
        """Release what the journal holds open; closing twice does no harm."""
