"""``ServerApp``: the function that runs a federation, and what surrounds it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from umbel.base import UsageError
from umbel.records import Context
from umbel.serverapp.grid import Grid

Main = Callable[[Grid, Context], Any]
Lifespan = Callable[[Context], Iterator[None]]
MainT = TypeVar("MainT", bound=Main)
LifespanT = TypeVar("LifespanT", bound=Lifespan)


class ServerApp:
    """The server's side of an app: one ``main`` function.

    Examples
    --------
    >>> app = ServerApp()
    >>> @app.main()
    ... def main(grid, context):
    ...     return len(grid.get_node_ids())
    """

    def __init__(self) -> None:
        self._main: Main | None = None
        self._lifespan: Lifespan | None = None

    def main(self) -> Callable[[MainT], MainT]:
        """Register the function ``main(grid, context)``; a run returns what it returns.

        Raises
        ------
        UsageError
            There is one already.
        """

        def register(function: MainT) -> MainT:
            if self._main is not None:
                raise UsageError("this ServerApp has a main function already")
            self._main = function
            return function

        return register

    def lifespan(self) -> Callable[[LifespanT], LifespanT]:
        """Register a generator that yields once: before it is set-up, after it is clean-up.

        Raises
        ------
        UsageError
            There is one already, or it is not a generator function.
        """

        def register(function: LifespanT) -> LifespanT:
            if self._lifespan is not None:
                raise UsageError("this ServerApp has a lifespan already")
            if not inspect.isgeneratorfunction(function):
                raise UsageError(
                    f"a lifespan is a generator function, and {function.__name__} is not",
                    hint="write one `yield` between set-up and clean-up",
                )
            self._lifespan = function
            return function

        return register

    def __call__(self, grid: Grid, context: Context) -> Any:
        """Run ``main`` inside the lifespan and return what it returns."""
        if self._main is None:
            raise UsageError(
                "this ServerApp has no main function", hint="decorate one with @app.main()"
            )
        if self._lifespan is None:
            return self._main(grid, context)
        with contextmanager(self._lifespan)(context):
            return self._main(grid, context)
