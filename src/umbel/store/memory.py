"""A journal that ends with its process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from umbel.base import InvalidTransition
from umbel.store.journal import Journal


class MemoryJournal(Journal):
    """Entries in a list, for tests and for servers that need not outlive their process.

    Examples
    --------
    >>> journal = MemoryJournal()
    >>> journal.append([b"a", b"b"])
    2
    >>> list(journal.read(after=1))
    [(2, b'b')]
    """

    def __init__(self) -> None:
        self._entries: list[bytes] = []
        self._dropped = 0
        self._snapshot: tuple[int, bytes] | None = None

    def append(self, entries: Iterable[bytes]) -> int:
        self._entries.extend([bytes(entry) for entry in entries])
        return self._dropped + len(self._entries)

    def read(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        after = max(after, self._dropped)
        yield from enumerate(self._entries[after - self._dropped :], after + 1)

    def snapshot(self, seq: int, data: bytes) -> None:
        last = self._dropped + len(self._entries)
        if not self._dropped <= seq <= last:
            raise InvalidTransition(f"no snapshot of entry {seq} of {self._dropped} to {last}")
        del self._entries[: seq - self._dropped]
        self._dropped = seq
        self._snapshot = seq, bytes(data)

    def latest_snapshot(self) -> tuple[int, bytes] | None:
        return self._snapshot

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
