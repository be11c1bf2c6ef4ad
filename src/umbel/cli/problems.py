"""What a user sees when something goes wrong: a panel with a hint, and an exit status."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from umbel.base import ConfigError, UmbelError, UsageError
from umbel.cli.tables import console
from umbel.serverapp import strict_json

FAILED, MISUSED, INTERRUPTED, TERMINATED = 1, 2, 130, 143

_FRAMES_SHOWN = 4
_OF_THE_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}
"""What the owner of the machine can mend; any other error of the system may be Umbel's."""


class Terminated(KeyboardInterrupt):
    """Somebody sent SIGTERM: the run ends as with Ctrl-C, and says so in its log."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated`; by default it would end the process on the spot."""
    received = False

    def end(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal received
        received = True
        raise Terminated("SIGTERM")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt as error:
        # A library that was interrupted while it waited may raise one of its own, as Ray does.
        if received and not isinstance(error, Terminated):
            raise Terminated("SIGTERM") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def reported(as_json: bool = False) -> Iterator[None]:
    """Turn an error of Umbel or of the disk into a panel (or a JSON object) and an exit status."""
    try:
        yield
    except (UmbelError, OSError) as caught:
        error = caught
        if isinstance(error, OSError) and not isinstance(error, UmbelError):
            if error.errno not in _OF_THE_DISK:
                raise
            error = ConfigError(
                f"a file or a folder cannot be used: {error.strerror}",
                hint="look at its rights, and at the room on the disk",
                file=error.filename,
            )
        if as_json:
            print_json(error_as_json(error))
        print_error(error)
        raise typer.Exit(exit_status(error)) from None


def exit_status(error: BaseException, *, learning_began: bool = False) -> int:
    """Return 2 if the command was called wrongly, 130 for Ctrl-C, 143 for SIGTERM, else 1.

    Once the app learns, an error of usage is the app's own: that is a failed run.
    """
    if isinstance(error, KeyboardInterrupt):
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    return MISUSED if isinstance(error, UsageError) and not learning_began else FAILED


def print_error(error: BaseException, app_dir: Path | None = None) -> None:
    """Print the error on stderr: Umbel's as a panel, others with the app's part of the stack."""
    from rich.panel import Panel
    from rich.text import Text

    out = console(stderr=True)
    if isinstance(error, KeyboardInterrupt):
        out.print("Interrupted.", style="yellow")
        return
    if isinstance(error, UmbelError):
        title = f"{type(error).__name__} {error.code}"
        body = Text(error.message)
        for name, value in error.context.items():
            body.append(f"\n{name}: {value}", style="dim")
        if error.hint:
            body.append("\n\nHint: ", style="bold").append(error.hint, style="not bold")
        cause = error.__cause__
    else:
        title = type(error).__name__
        body = Text(str(error) or "(no message)")
        cause = error
    stack = short_stack(cause, app_dir) if cause is not None and app_dir is not None else ""
    if stack:
        body.append(f"\n\n{stack}", style="dim")
    out.print(Panel(body, title=title, title_align="left", border_style="red", expand=False))


def short_stack(error: BaseException, app_dir: Path) -> str:
    """Return the last frames of the app's own code, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(app_dir)]
    lines = [
        f"{Path(frame.filename).relative_to(app_dir)}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in own[-_FRAMES_SHOWN:]
    ]
    return "\n".join(lines)


def error_as_json(error: BaseException) -> dict[str, Any]:
    """Return ``success``, ``error-code``, ``error-message`` and, if there is one, ``hint``."""
    if isinstance(error, UmbelError):
        where = ", ".join(f"{name}: {value}" for name, value in error.context.items())
        message = f"{error.message} ({where})" if where else error.message
        answer: dict[str, Any] = {"error-code": error.code, "error-message": message}
        if error.hint:
            answer["hint"] = error.hint
    elif isinstance(error, KeyboardInterrupt):
        answer = {"error-code": "interrupted", "error-message": "interrupted"}
    else:
        kind = type(error).__name__
        answer = {"error-code": kind, "error-message": f"{kind}: {error}"}
    return {"success": False} | answer


def print_json(value: object) -> None:
    """Print the value on stdout as one line of JSON."""
    sys.stdout.write(strict_json(value) + "\n")
    sys.stdout.flush()
