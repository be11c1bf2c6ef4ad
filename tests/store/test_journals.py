"""Both journals keep the contract; each check finds a journal that does not; damage is noticed."""

import sqlite3

import pytest

from umbel.base import ConfigError, JournalCorrupt
from umbel.store import MemoryJournal, SqlJournal
from umbel.testing import journal_checks

CHECKS = dict(journal_checks())


@pytest.fixture
def file(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def make(file):
    return lambda: SqlJournal(f"sqlite:///{file}")


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_sqlite(check, make):
    check(make)


@pytest.mark.parametrize("name", [n for n in CHECKS if n != "restart"])
def test_memory(name):
    CHECKS[name](MemoryJournal)


class Eager(MemoryJournal):
    def append(self, entries):
        for entry in entries:
            self._entries.append(entry)
        return len(self._entries)


class Reversed(MemoryJournal):
    def read(self, after=0):
        return reversed(list(super().read(after)))


class Hoarder(MemoryJournal):
    def snapshot(self, seq, data):
        self._snapshot = seq, data


class Stripper(MemoryJournal):
    def append(self, entries):
        return super().append([entry.strip(b"\0") for entry in entries])


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("all_or_none", Eager),
        ("order_and_numbers", Reversed),
        ("snapshot_replaces", Hoarder),
        ("snapshot_out_of_range", Hoarder),
        ("any_bytes", Stripper),
        ("restart", MemoryJournal),
    ],
)
def test_a_check_finds_what_breaks_it(name, make):
    with pytest.raises(AssertionError):
        CHECKS[name](make)


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("delete from entries where seq = 2", 2),
        ("delete from entries where seq = 1", 1),
        ("update entries set data = x'00' where seq = 3", 3),
        ("update entries set seq = 9 where seq = 2", 2),
    ],
)
def test_damage_is_named_by_its_row(make, file, sql, number):
    journal = make()
    journal.append([b"a", b"b", b"c"])
    journal.close()
    with sqlite3.connect(file) as connection:
        connection.execute(sql)
    connection.close()
    journal = make()
    with pytest.raises(JournalCorrupt) as caught:
        list(journal.read())
    assert caught.value.context["number"] == number
    journal.close()


def test_what_is_no_database_is_no_journal(make, file):
    file.write_bytes(b"something else " * 1000)
    with pytest.raises(JournalCorrupt, match="not a database"):
        make()


@pytest.mark.slow  # SQLite waits a second for the lock
def test_two_servers_cannot_write_to_one_journal(make):
    first = make()
    first.append([b"a"])
    with pytest.raises(ConfigError, match="locked"):
        make()
    first.close()


@pytest.mark.parametrize(("durable", "level"), [(False, 1), (True, 2)])
def test_durable_asks_sqlite_for_full_synchronisation(file, durable, level):
    journal = SqlJournal(f"sqlite:///{file}", durable=durable)
    ask = journal._connection.exec_driver_sql
    assert ask("PRAGMA synchronous").scalar() == level
    assert ask("PRAGMA journal_mode").scalar() == "wal"
    journal.close()
