"""A journal in a database; SQLite is what it is tested with."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from umbel.base import ConfigError, InvalidTransition, JournalCorrupt, MissingDependency
from umbel.store.journal import Journal

if TYPE_CHECKING:
    from sqlalchemy import Connection

_READ_ROWS = 1000


class SqlJournal(Journal):
    """Entries in two tables of a database, each with a checksum.

    SQLite runs with a write-ahead log and an exclusive lock, so that two servers can't write to
    one journal.

    Parameters
    ----------
    url : str
        What SQLAlchemy connects to: `sqlite:////var/lib/umbel/journal.db`.
    durable : bool, optional
        Whether entries survive a power cut as soon as `append` returns. Without it they survive
        the death of the process at any moment; a power cut may take the last of them, never some
        in between. What is lost is asked of the nodes once more.

    Raises
    ------
    ConfigError
        If the database cannot be opened, or another process has it open.
    JournalCorrupt
        If it can be opened and is no journal.

    Examples
    --------
    >>> journal = SqlJournal("sqlite://")
    >>> journal.append([b"a", b"b"])
    2
    >>> list(journal.read())
    [(1, b'a'), (2, b'b')]
    >>> journal.close()
    """

    def __init__(self, url: str, durable: bool = False) -> None:
        try:
            import sqlalchemy as sa
        except ImportError as error:
            hint = 'pip install "umbel[deploy]"'
            raise MissingDependency("a journal on disk needs sqlalchemy", hint=hint) from error
        schema = sa.MetaData()
        number = sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False)
        columns = (sa.Column("crc", sa.BigInteger), sa.Column("data", sa.LargeBinary))
        self._entries = sa.Table("entries", schema, number, *columns)
        self._snapshots = sa.Table(
            "snapshots", schema, *(column.copy() for column in (number, *columns))
        )
        try:
            engine = sa.create_engine(
                url, poolclass=sa.pool.StaticPool, connect_args=_connect_args(url)
            )
            self._connection: Connection = engine.connect()
            if engine.dialect.name == "sqlite":
                for pragma in _pragmas(durable):
                    self._connection.exec_driver_sql(f"PRAGMA {pragma}")
        except (sa.exc.OperationalError, sa.exc.ArgumentError) as error:
            why = "another process may have it open; one server writes to a journal"
            raise ConfigError(f"cannot open the journal: {error.args[0]}", hint=why) from error
        except sa.exc.DatabaseError as error:
            raise JournalCorrupt(f"not a journal: {error.args[0]}") from error
        self._engine = engine
        with self._transaction():
            schema.create_all(self._connection)
        self._last = self._last_number()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        import sqlalchemy as sa

        try:
            with self._connection.begin():
                yield
        except sa.exc.OperationalError as error:
            hint = "look for a full disk, a lost mount or another server on this folder"
            raise ConfigError(f"the journal cannot be used: {error.args[0]}", hint=hint) from error
        except sa.exc.DatabaseError as error:
            raise JournalCorrupt(f"the database is damaged: {error.args[0]}") from error

    def _last_number(self) -> int:
        import sqlalchemy as sa

        with self._transaction():
            newest = [
                self._connection.execute(sa.select(sa.func.max(table.c.seq))).scalar()
                for table in (self._entries, self._snapshots)
            ]
        return max(number or 0 for number in newest)

    def append(self, entries: Iterable[bytes]) -> int:
        rows = [_row(seq, entry) for seq, entry in enumerate(entries, self._last + 1)]
        if rows:
            with self._transaction():
                self._connection.execute(self._entries.insert(), rows)
            self._last += len(rows)
        return self._last

    def read(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        snapshot = self.latest_snapshot()
        after = max(after, snapshot[0] if snapshot else 0)
        table, last = self._entries, self._last
        while after < last:
            query = table.select().where(table.c.seq > after, table.c.seq <= last)
            with self._transaction():
                rows = self._connection.execute(query.order_by(table.c.seq).limit(_READ_ROWS)).all()
            if not rows:
                raise JournalCorrupt("the journal lacks an entry", number=after + 1)
            for seq, crc, data in rows:
                if seq != after + 1:
                    raise JournalCorrupt("the journal lacks an entry", number=after + 1)
                yield seq, _checked(seq, crc, data)
                after = seq

    def snapshot(self, seq: int, data: bytes) -> None:
        latest = self.latest_snapshot()
        if not (latest[0] if latest else 0) <= seq <= self._last:
            raise InvalidTransition(f"no snapshot of entry {seq}; the last is {self._last}")
        with self._transaction():
            self._connection.execute(self._snapshots.delete())
            self._connection.execute(self._snapshots.insert(), [_row(seq, data)])
            self._connection.execute(self._entries.delete().where(self._entries.c.seq <= seq))

    def latest_snapshot(self) -> tuple[int, bytes] | None:
        with self._transaction():
            row = self._connection.execute(self._snapshots.select()).first()
        return None if row is None else (row.seq, _checked(*row))

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


def _connect_args(url: str) -> dict[str, Any]:
    # One connection is used by one thread at a time, not always by the same.
    return {"check_same_thread": False, "timeout": 1.0} if url.startswith("sqlite") else {}


def _pragmas(durable: bool) -> tuple[str, ...]:
    level = "FULL" if durable else "NORMAL"
    return "locking_mode=EXCLUSIVE", "journal_mode=WAL", f"synchronous={level}"


def _row(seq: int, data: bytes) -> dict[str, object]:
    return {"seq": seq, "crc": zlib.crc32(data, seq & 0xFFFFFFFF), "data": data}


def _checked(seq: int, crc: int, data: bytes) -> bytes:
    if not isinstance(data, bytes) or zlib.crc32(data, seq & 0xFFFFFFFF) != crc:
        raise JournalCorrupt("an entry of the journal does not fit its checksum", number=seq)
    return data
