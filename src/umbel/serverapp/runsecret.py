"""The secret of a run, kept in a file that only its owner reads."""

from __future__ import annotations

import os
from pathlib import Path

from umbel.base import ProtocolError, fresh_key, sync
from umbel.serverapp.runlog import naming

_BYTES = 32


class Secrets:
    """32 random bytes: drawn when they are first asked for, and the same from then on.

    Parameters
    ----------
    path : Path or None
        The file that holds them, readable by its owner alone; without one they are in memory.

    Examples
    --------
    >>> secrets = Secrets(None)
    >>> len(secrets.root()), secrets.root() == secrets.root()
    (32, True)
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._root: bytes | None = None

    def root(self) -> bytes:
        """Return the bytes; a file is on the disk before they are used for the first time.

        Raises
        ------
        ProtocolError
            The file does not hold 32 bytes.
        """
        if self._root is None:
            known = None if self._path is None else self._read(self._path)
            self._root = fresh_key() if known is None else known
            if known is None and self._path is not None:
                self._write(self._path, self._root)
        return self._root

    def forget(self) -> None:
        """Remove the bytes, from the disk as well."""
        self._root = None
        if self._path is not None and self._path.exists():
            with naming(self._path):
                self._path.unlink()
                sync(self._path.parent)

    @staticmethod
    def _read(path: Path) -> bytes | None:
        if not path.exists():
            return None
        with naming(path):
            secret = path.read_bytes()
        if len(secret) != _BYTES:
            raise ProtocolError(
                f"the secret of the run has {len(secret)} bytes: the file was changed",
                hint="restore it from a copy; without it the run is noised anew, and spends more",
                file=path,
            )
        return secret

    @staticmethod
    def _write(path: Path, secret: bytes) -> None:
        # Under another name first: a file that is there is whole.
        part = path.with_suffix(".part")
        with naming(path):
            part.unlink(missing_ok=True)
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secret)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync(path.parent)
