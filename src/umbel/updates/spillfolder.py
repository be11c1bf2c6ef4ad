"""The folder that replies are spilled to, which does not outlive its process for long."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from platform import node as host_name


class SpillFolder:
    """A new folder that is removed with this object.

    A process that is killed removes nothing. So each folder is locked as long as its process lives,
    and whoever makes another one in the same place first removes those that nobody holds. Folders
    of other hosts are left alone: a shared disk need not share its locks.

    Parameters
    ----------
    parent : path, optional
        Where the folder is made; by default where the system keeps such files.

    Attributes
    ----------
    path : Path
        The folder.

    Examples
    --------
    >>> folder = SpillFolder()
    >>> path = folder.path
    >>> path.is_dir()
    True
    >>> del folder
    >>> path.exists()
    False
    """

    def __init__(self, parent: Path | str | None = None) -> None:
        place = Path(tempfile.gettempdir() if parent is None else parent)
        prefix = f"umbel-replies-{host_name()}-"
        for other in place.glob(f"{prefix}*"):
            _remove_if_left(other)
        self.path, lock = _make(place, prefix)
        weakref.finalize(self, _remove, self.path, lock)


def _make(place: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        lock = _open(path)
        if lock is None:
            continue  # somebody took it for one that was left, before it was locked
        with suppress(OSError):  # where folders cannot be locked, nobody can remove them either
            fcntl.flock(lock, fcntl.LOCK_SH)
        if path.exists():
            return path, lock
        os.close(lock)


def _open(path: Path) -> int | None:
    with suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    return None


def _remove_if_left(path: Path) -> None:
    lock = _open(path)
    if lock is None:
        return
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _remove(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)
