"""What every journal keeps to, as checks that anyone can run on theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from umbel.base import InvalidTransition
from umbel.store import Journal
from umbel.testing.cases import Check, asserting

Make = Callable[[], Journal]
"""Opens the journal: first an empty one, then the same again, as after a restart."""


def journal_checks(survives: bool = True) -> Iterator[tuple[str, Check]]:
    """Yield ``(name, check)`` for everything that the contract of a journal asks for.

    ``check(make)``, with a function that opens one journal, returns nothing or raises
    ``AssertionError``. Each check wants a fresh one; it closes each before it opens the next.

    Parameters
    ----------
    survives : bool, optional
        Whether what was written is there when ``make`` is called again.

    Examples
    --------
    >>> from umbel.store import MemoryJournal
    >>> for name, check in journal_checks(survives=False):
    ...     check(MemoryJournal)
    """
    checks: dict[str, Callable[[Make], None]] = {
        "empty": _empty,
        "order_and_numbers": _order_and_numbers,
        "any_bytes": _any_bytes,
        "all_or_none": _all_or_none,
        "append_while_reading": _append_while_reading,
        "snapshot_replaces": _snapshot_replaces,
        "snapshot_out_of_range": _snapshot_out_of_range,
        "closing_twice": _closing_twice,
    }
    if survives:
        checks["restart"] = _restart
    for name, check in checks.items():
        yield name, asserting(check)


def _empty(make: Make) -> None:
    with closing(make()) as journal:
        assert list(journal.read()) == [], "a new journal has no entry"
        assert journal.latest_snapshot() is None, "a new journal has no snapshot"
        assert journal.append([]) == 0, "append returns the number of the last entry, first 0"


def _order_and_numbers(make: Make) -> None:
    with closing(make()) as journal:
        assert journal.append([b"a", b"b"]) == 2
        assert journal.append(iter([b"c"])) == 3, "any iterable will do"
        assert list(journal.read()) == [(1, b"a"), (2, b"b"), (3, b"c")]
        assert list(journal.read(after=2)) == [(3, b"c")]
        assert list(journal.read(after=3)) == []
        many = [b"%d" % i for i in range(2500)]
        assert journal.append(many) == 2503
        assert [entry for _, entry in journal.read(after=3)] == many, "entries come in order"


def _any_bytes(make: Make) -> None:
    entries = [b"", b"\0", bytes(range(256)), b"x" * 200_000]
    with closing(make()) as journal:
        journal.append(entries)
        assert [entry for _, entry in journal.read()] == entries, "bytes come back as they were"


def _all_or_none(make: Make) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise EOFError

    with closing(make()) as journal:
        with suppress(EOFError):
            journal.append(broken())
        assert list(journal.read()) == [], "a batch that failed leaves nothing"
        assert journal.append([b"two"]) == 1, "a batch that failed takes no number"


def _append_while_reading(make: Make) -> None:
    with closing(make()) as journal:
        journal.append([b"a", b"b"])
        reader = journal.read()
        first = next(reader)
        journal.append([b"c"])
        assert [first, *reader][:2] == [(1, b"a"), (2, b"b")]
        assert list(journal.read(after=2)) == [(3, b"c")]


def _snapshot_replaces(make: Make) -> None:
    with closing(make()) as journal:
        journal.append([b"a", b"b", b"c"])
        journal.snapshot(2, b"ab")
        assert journal.latest_snapshot() == (2, b"ab")
        assert list(journal.read()) == [(3, b"c")], "what is in the snapshot is dropped"
        assert list(journal.read(after=2)) == [(3, b"c")]
        journal.snapshot(3, b"abc")
        assert journal.latest_snapshot() == (3, b"abc")
        assert list(journal.read(after=3)) == []
        assert journal.append([b"d"]) == 4, "numbers go on"


def _snapshot_out_of_range(make: Make) -> None:
    with closing(make()) as journal:
        journal.append([b"a", b"b", b"c"])
        journal.snapshot(2, b"ab")
        for seq in (1, 4):
            try:
                journal.snapshot(seq, b"")
            except InvalidTransition:
                continue
            raise AssertionError(f"a snapshot at {seq}, of entries 3 to 3, must be refused")
        assert journal.latest_snapshot() == (2, b"ab")


def _closing_twice(make: Make) -> None:
    journal = make()
    journal.close()
    journal.close()


def _restart(make: Make) -> None:
    with closing(make()) as journal:
        journal.append([b"a", b"b"])
    with closing(make()) as journal:
        assert list(journal.read()) == [(1, b"a"), (2, b"b")], "entries survive"
        assert journal.append([b"c"]) == 3, "numbers go on"
        journal.snapshot(3, b"abc")
    with closing(make()) as journal:
        assert journal.latest_snapshot() == (3, b"abc"), "snapshots survive"
        assert journal.append([b"d"]) == 4, "numbers go on after a snapshot of all"
        assert list(journal.read(after=3)) == [(4, b"d")]
