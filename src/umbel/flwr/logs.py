"""The logger that apps write to."""

from __future__ import annotations

import logging
from typing import TextIO

logger = logging.getLogger("flwr")
_CONSOLE = logging.StreamHandler()
_CONSOLE.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
logger.addHandler(_CONSOLE)
logger.setLevel(logging.INFO)

log = logger.log


def configure(identifier: str, filename: str | None = None, host: str | None = None) -> None:
    """Write the log to a file too, each line under an identifier.

    Raises
    ------
    UsageError
        A host is named: logs are not sent over the network.
    """
    from umbel.base import UsageError

    if host is not None:
        raise UsageError("logs are not sent to a host", hint="give a filename")
    if filename is not None:
        handler = logging.FileHandler(filename)
        handler.setFormatter(
            logging.Formatter(f"{identifier} | %(levelname)s %(asctime)s | %(message)s")
        )
        logger.addHandler(handler)


def update_console_handler(
    level: int | str | None = None,
    timestamps: bool | None = None,
    colored: bool | None = None,
    stream: TextIO | None = None,
) -> None:
    """Change what the console shows; lines are plain, whatever ``colored`` says."""
    if level is not None:
        _CONSOLE.setLevel(level)
    if timestamps is not None:
        time = "%(asctime)s " if timestamps else ""
        _CONSOLE.setFormatter(logging.Formatter(f"%(levelname)s: {time}%(message)s"))
    if stream is not None:
        _CONSOLE.setStream(stream)
