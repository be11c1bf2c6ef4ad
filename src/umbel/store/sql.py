"""A journal in a database; SQLite is what it is tested with."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
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
        self._entries, self._snapshots = (
            sa.Table(
                name,
                schema,
                sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
                sa.Column("crc", sa.BigInteger, nullable=False),
                sa.Column("data", sa.LargeBinary, nullable=False),
            )
            for name in ("entries", "snapshots")
        )
        try:
            self._engine = sa.create_engine(
                url, poolclass=sa.pool.StaticPool, connect_args=_connect_args(url)
            )
        except sa.exc.ArgumentError as error:
            raise ConfigError(f"not the address of a database: {url!r}") from error
        with ExitStack() as undo:
            undo.callback(self._engine.dispose)
            with _told():
                self._connection: Connection = self._engine.connect()
                undo.callback(self._connection.close)
                if self._engine.dialect.name == "sqlite":
                    for pragma in _pragmas(durable):
                        self._connection.exec_driver_sql(f"PRAGMA {pragma}")
                    self._connection.commit()
            with self._transaction():
                schema.create_all(self._connection)
            self._last = self._last_number()
            undo.pop_all()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _told(), self._connection.begin():
            yield

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


@contextmanager
def _told() -> Iterator[None]:
    """Say in Umbel's own errors what a database cannot do."""
    import sqlalchemy as sa

    try:
        yield
    except sa.exc.OperationalError as error:
        hint = "look for another server on this folder, a full disk or a lost mount"
        raise ConfigError(f"the journal cannot be used: {error.args[0]}", hint=hint) from error
    except sa.exc.DatabaseError as error:
        raise JournalCorrupt(f"the database is damaged: {error.args[0]}") from error


def _connect_args(url: str) -> dict[str, Any]:
    # One connection is used by one thread at a time, not always by the same.
    return {"check_same_thread": False, "timeout": 1.0} if url.startswith("sqlite") else {}


def _pragmas(durable: bool) -> tuple[str, ...]:
    level = "FULL" if durable else "NORMAL"
    return "locking_mode=EXCLUSIVE", "journal_mode=WAL", f"synchronous={level}"


def _row(seq: int, data: bytes) -> dict[str, object]:
    return {"seq": seq, "crc": zlib.crc32(data, seq & 0xFFFFFFFF), "data": data}


def _checked(seq: int, crc: int, data: bytes) -> bytes:
    if zlib.crc32(data, seq & 0xFFFFFFFF) != crc:
        raise JournalCorrupt("an entry of the journal does not fit its checksum", number=seq)
    return data
