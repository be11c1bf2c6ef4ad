"""The run log: what happened in a run, appended to one hash-chained list of JSON lines.

Resume, history, audit and the command line all read this log; none keeps its own.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from umbel.base import SYSTEM_CLOCK, Clock, ProtocolError, content_hash

_GENESIS = "0" * 64
_BEFORE_HASH = b', "hash": "'


@dataclass(frozen=True)
class LogEntry:
    """One thing that happened.

    Attributes
    ----------
    seq : int
        Its place in the log, from 0.
    at : float
        When, in seconds since the Unix epoch.
    event : str
        What, for example ``"round_finished"``.
    data : dict
        The facts, as JSON takes them; a number that is not finite is ``"NaN"``, ``"Infinity"`` or
        ``"-Infinity"``.
    prev : str
        The hash of the entry before; 64 zeros for the first.
    hash : str
        SHA-256 of the JSON text of all the other fields, as it stands in the file.
    """

    seq: int
    at: float
    event: str
    data: dict[str, Any]
    prev: str
    hash: str


class RunLog:
    """An append-only log whose entries each carry the hash of the one before.

    Parameters
    ----------
    path : Path, optional
        The file to append to, one JSON object a line; without it the log lives in memory. An entry
        is handed to the operating system before ``append`` returns. A line that was cut off when a
        process was killed is removed.
    clock : Clock
        Where the time of an entry comes from.
    new : bool, default=False
        Make the file, and refuse one that is there: of two runs that begin at once, one gets it.
        It is removed on ``close`` if nothing was appended.

    Raises
    ------
    ProtocolError
        The file there is was changed after it was written.
    FileExistsError
        The file is there, and was to be made.

    Examples
    --------
    >>> log = RunLog()
    >>> log.append("round_started", round=1)
    >>> [(entry.seq, entry.event, entry.data) for entry in log.entries()]
    [(0, 'round_started', {'round': 1})]
    """

    def __init__(
        self, path: Path | None = None, clock: Clock = SYSTEM_CLOCK, *, new: bool = False
    ) -> None:
        self.count = 0
        self._new = new
        self._path = path
        self._clock = clock
        self._prev = _GENESIS
        self._lines: list[bytes] = []
        self._file: BinaryIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if new:
                self._file = path.open("xb")
                return
            whole = self._resume(path) if path.exists() else 0
            self._file = path.open("ab")
            self._file.truncate(whole)

    def append(self, event: str, /, **data: Any) -> None:
        """Add what happened; ``data`` must be what JSON takes."""
        fields = {
            "seq": self.count,
            "at": self._clock.now(),
            "event": event,
            "data": data,
            "prev": self._prev,
        }
        text = strict_json(fields).encode()
        digest = content_hash([text])
        line = b'%b%b%b"}\n' % (text[:-1], _BEFORE_HASH, digest.encode())
        if self._file is not None and self._path is not None:
            with naming(self._path):
                self._file.write(line)
                self._file.flush()
        else:
            self._lines.append(line)
        self.count, self._prev = self.count + 1, digest

    def entries(self) -> Iterator[LogEntry]:
        """Yield what was appended, as a reader of the file sees it."""
        if self._path is not None:
            return read_log(self._path)
        return (entry for entry, _ in _parse(self._lines, "memory"))

    def sync(self) -> None:
        """Return when all that was appended is on the disk, whatever happens to the machine."""
        if self._file is not None and self._path is not None:
            with naming(self._path):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            if self._new and self._path is not None and not self.count:
                self._path.unlink(missing_ok=True)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _resume(self, path: Path) -> int:
        """Go to the end of the chain; return how many bytes of the file are whole lines."""
        end = 0
        with path.open("rb") as file:
            for entry, size_bytes in _parse(file, path):
                self.count, self._prev, end = entry.seq + 1, entry.hash, end + size_bytes
        return end


def read_log(path: Path) -> Iterator[LogEntry]:
    """Yield the entries of a log file, checking the chain of hashes.

    A last line that was cut off in the middle of being written is left out.

    Raises
    ------
    ProtocolError
        An entry is not what was written: which line, and why.
    """
    with path.open("rb") as file:
        for entry, _ in _parse(file, path):
            yield entry


def _parse(lines: Iterable[bytes], file: Path | str) -> Iterator[tuple[LogEntry, int]]:
    """Yield each entry with the length of its line in bytes."""
    prev = _GENESIS
    for number, line in enumerate(lines):
        if not line.endswith(b"\n"):
            return
        try:
            entry = LogEntry(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ProtocolError(
                "a line of the run log cannot be read", file=file, line=number + 1
            ) from error
        text = line.rpartition(_BEFORE_HASH)[0] + b"}"
        if (entry.seq, entry.prev, entry.hash) != (number, prev, content_hash([text])):
            raise ProtocolError(
                "the run log was changed after it was written: the chain of hashes breaks",
                hint="trust nothing in it from this line on",
                file=file,
                line=number + 1,
            )
        yield entry, len(line)
        prev = entry.hash


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the operating system say which file it is about; a full disk does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def strict_json(value: Any) -> str:
    """Return JSON that every language reads: it knows no NaN and no infinity."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value
