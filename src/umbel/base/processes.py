"""What a process says by its end, and how one ends with the process that started it."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_ARENAS = 2


def die_with_parent() -> None:
    """Let the system kill this process when the one that started it ends (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def keep_freed_memory(size_bytes: int) -> None:
    """Let this process keep so much freed memory for what it allocates next (with glibc).

    Large buffers that come and go are otherwise given back and asked for again each time, and the
    system clears every page anew: for chunks of a transfer that costs more than to copy them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, size_bytes)
        mallopt(_M_MMAP_THRESHOLD, size_bytes)
        mallopt(_M_ARENA_MAX, _ARENAS)  # not one for each thread, which would keep as much again


def exit_text(code: int) -> tuple[str, str]:
    """Return the kind of a process's end and a sentence about it.

    Examples
    --------
    >>> exit_text(-11)
    ('SIGSEGV', 'its process was ended by SIGSEGV')
    >>> exit_text(3)
    ('ExitCode', 'its process ended itself with exit code 3')
    """
    if code >= 0:
        return "ExitCode", f"its process ended itself with exit code {code}"
    name = signal.Signals(-code).name
    cause = " (out of memory, or killed from outside)" if name == "SIGKILL" else ""
    return name, f"its process was ended by {name}{cause}"


def raise_open_files_limit() -> None:
    """Let this process and those it starts open as many files as the system allows."""
    import resource  # which Windows does not have

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls it infinite, and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
