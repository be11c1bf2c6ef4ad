"""Set-up before and tear-down after a piece of work, written as one generator function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from umbel.base.errors import UsageError

T = TypeVar("T")
Lifespan = Callable[[T], Iterator[None]]
"""A generator function that yields once."""


def check_lifespan(function: Callable[..., object]) -> None:
    """Raise unless ``function`` is a generator function.

    Raises
    ------
    UsageError
        It is not.
    """
    if not inspect.isgeneratorfunction(function):
        raise UsageError(
            f"lifespan {_name(function)} is not a generator function",
            hint="write it as a function that yields once, between set-up and tear-down",
        )


@contextmanager
def entered(lifespan: Lifespan[T], argument: T) -> Iterator[None]:
    """Run the part of ``lifespan`` before its ``yield`` on entry and the part after it on exit.

    The part after the ``yield`` runs as well when the body raised, even if it stands in no
    ``finally``. The body's exception goes on to the caller in any case; if the tear-down fails too,
    that is added to it as a note.

    Raises
    ------
    UsageError
        The function yields not at all, or more than once.

    Examples
    --------
    >>> def lifespan(name):
    ...     print("open", name)
    ...     yield
    ...     print("close", name)
    >>> with entered(lifespan, "file"):
    ...     print("work")
    open file
    work
    close file
    """
    generator = cast("Generator[None, None, None]", lifespan(argument))
    try:
        next(generator)
    except StopIteration:
        raise _miscounted(lifespan, "never yields") from None
    try:
        yield
    except BaseException as error:
        try:
            _finish(generator, lifespan)
        except Exception as failure:
            # What went wrong first is what the reader needs first.
            error.add_note(f"Its lifespan's tear-down failed as well: {failure!r}")
        raise
    _finish(generator, lifespan)


def _finish(generator: Generator[None, None, None], lifespan: Lifespan[T]) -> None:
    # Resumed, not thrown into: a tear-down that stands outside `finally` must run too.
    try:
        next(generator)
    except StopIteration:
        return
    generator.close()
    raise _miscounted(lifespan, "yields more than once")


def _miscounted(lifespan: Lifespan[T], what: str) -> UsageError:
    return UsageError(
        f"lifespan {_name(lifespan)} {what}",
        hint="it must yield exactly once, between set-up and tear-down",
    )


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
