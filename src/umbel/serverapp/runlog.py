"""The run log: what happened in a run, appended to one hash-chained list of JSON lines.

Resume, history, audit and the command line all read this log; none keeps its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from umbel.base import SYSTEM_CLOCK, Clock, ProtocolError, content_hash

_GENESIS = "0" * 64


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
        The facts, as JSON takes them.
    prev : str
        The hash of the entry before; 64 zeros for the first.
    hash : str
        SHA-256 over all the other fields.
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
        is handed to the operating system before ``append`` returns.
    clock : Clock
        Where the time of an entry comes from.

    Examples
    --------
    >>> log = RunLog()
    >>> _ = log.append("round_started", round=1)
    >>> [(entry.seq, entry.event, entry.data) for entry in log.entries]
    [(0, 'round_started', {'round': 1})]
    """

    def __init__(self, path: Path | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self.entries: list[LogEntry] = []
        self._clock = clock
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self.entries = list(read_log(path))
            self._file = path.open("a", encoding="utf-8")

    def append(self, event: str, **data: Any) -> LogEntry:
        """Add what happened; ``data`` must be what JSON takes."""
        prev = self.entries[-1].hash if self.entries else _GENESIS
        seq, at = len(self.entries), self._clock.now()
        # Through JSON and back, so that memory holds exactly what a reader of the file will see.
        data = json.loads(json.dumps(data))
        entry = LogEntry(seq, at, event, data, prev, _digest(seq, at, event, data, prev))
        self.entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(asdict(entry)) + "\n")
            self._file.flush()
        return entry

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_log(path: Path) -> Iterator[LogEntry]:
    """Yield the entries of a log file, checking the chain of hashes.

    A last line that was cut off in the middle of being written is left out.

    Raises
    ------
    ProtocolError
        An entry is not what was written: which line, and why.
    """
    prev = _GENESIS
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            if not line.endswith("\n"):
                return
            try:
                entry = LogEntry(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise ProtocolError(
                    "a line of the run log cannot be read", file=path, line=number + 1
                ) from error
            expected = _digest(entry.seq, entry.at, entry.event, entry.data, entry.prev)
            if (entry.seq, entry.prev, entry.hash) != (number, prev, expected):
                raise ProtocolError(
                    "the run log was changed after it was written: the chain of hashes breaks",
                    hint="trust nothing in it from this line on",
                    file=path,
                    line=number + 1,
                )
            yield entry
            prev = entry.hash


def _digest(seq: int, at: float, event: str, data: dict[str, Any], prev: str) -> str:
    text = json.dumps([seq, at, event, data, prev], sort_keys=True, separators=(",", ":"))
    return content_hash([text.encode()])
