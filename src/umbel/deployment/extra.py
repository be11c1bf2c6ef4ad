"""The libraries that only deployment needs, and what to say when they are not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from umbel.base import MissingDependency


@contextmanager
def needs_cryptography() -> Iterator[None]:
    """Say what to install when ``cryptography`` is missing; decorates functions that import it.

    Raises
    ------
    MissingDependency
        In place of the failed import.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cryptography":
            raise
        raise MissingDependency(
            "certificates and signatures need cryptography", hint='pip install "umbel[deploy]"'
        ) from error
