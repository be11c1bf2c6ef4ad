"""What happened under a policy, on disk: a line of JSON for each entry, and never changed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from umbel.base import ConfigError, JournalCorrupt, sync
from umbel.deployment.atomic import PRIVATE, private_folder


class PolicyLedger:
    """A file that only grows, for one process at a time; it may be append-only (``chattr +a``).

    Parameters
    ----------
    file : Path
        Made when it is missing.

    Raises
    ------
    ConfigError
        Another node uses it; or it is append-only and ends in half a line.
    JournalCorrupt
        A line cannot be read that is not the last: a crash can only have cut that one.
    """

    def __init__(self, file: Path) -> None:
        private_folder(file.parent)
        self._path = file
        self._fd = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise ConfigError(
                "another node uses this ledger", hint="give each node a folder", file=file
            ) from None
        sync(file.parent)
        self._size = self._whole_lines()

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield what was written, the oldest first.

        Raises
        ------
        JournalCorrupt
            A line cannot be read.
        """
        for number, line in enumerate(self._path.read_bytes()[: self._size].splitlines(), 1):
            try:
                entry = json.loads(line)
                entry["event"]
            except (ValueError, KeyError, TypeError) as error:
                raise JournalCorrupt(
                    f"line {number} of the policy's ledger cannot be read",
                    hint="restore the file; without it, nobody knows what was spent",
                    file=self._path,
                ) from error
            yield entry

    def append(self, entry: dict[str, Any], *, durable: bool) -> None:
        """Write an entry; ``durable`` ones are on disk when this returns.

        Raises
        ------
        JournalCorrupt
            Somebody else has written to the file.
        """
        if os.fstat(self._fd).st_size != self._size:
            raise JournalCorrupt(
                "the policy's ledger was changed by somebody else",
                hint="end the node, and see who may write to its folder",
                file=self._path,
            )
        line = rest = json.dumps(entry).encode() + b"\n"
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with suppress(OSError):  # where half a line has to stay, none is written behind it
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)
        if durable:
            os.fsync(self._fd)

    def close(self) -> None:
        """Let another process use the file."""
        os.close(self._fd)

    def _whole_lines(self) -> int:
        """Cut off what a crash has left of a line; return the size of the rest."""
        data = self._path.read_bytes()
        size = data.rfind(b"\n") + 1
        if size < len(data):
            try:
                os.ftruncate(self._fd, size)
            except PermissionError:
                os.close(self._fd)
                raise ConfigError(
                    "the policy's ledger ends in half a line, and may only be appended to",
                    hint="chattr -a FILE, start the node, chattr +a FILE",
                    file=self._path,
                ) from None
        return size
