"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from umbel.base import sync

PRIVATE, PUBLIC = 0o600, 0o644
"""Modes of files: for their owner alone, and for all to read."""


def write_atomically(file: Path, data: bytes, *, mode: int, replace: bool = True) -> None:
    """Write a file so that no reader and no crash ever sees a part of it.

    Parameters
    ----------
    file : pathlib.Path
        Its folder exists.
    data : bytes
    mode : int
        ``PRIVATE`` or ``PUBLIC``. The content is never on disk under a wider mode.
    replace : bool
        Whether a file that is there may be replaced.

    Raises
    ------
    FileExistsError
        If the file is there and ``replace`` is false.
    """
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            os.replace(temporary, file)
        else:
            os.link(temporary, file)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    sync(file.parent)


def private_folder(folder: Path) -> Path:
    """Make a folder, with those above it, that its owner alone can enter; it may be there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
