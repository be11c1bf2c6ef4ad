"""What a process says by its end, and how one ends with the process that started it."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Let the system kill this process when the one that started it ends (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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
