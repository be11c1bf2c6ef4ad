"""``ServerApp``: the function that runs a federation, and what surrounds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from umbel.base import Lifespan, UsageError, check_lifespan, entered
from umbel.records import Context
from umbel.serverapp.grid import Grid

Main = Callable[[Grid, Context], Any]
"""Runs the federation; what it returns, the run returns."""

MainT = TypeVar("MainT", bound=Main)
LifespanT = TypeVar("LifespanT", bound=Lifespan[Context])


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
        self._lifespan: Lifespan[Context] | None = None

    def main(self, *arguments: object) -> Callable[[MainT], MainT]:
        """Register the function ``main(grid, context)``; a run returns what it returns.

        Raises
        ------
        UsageError
            There is one already, or the decorator was written with arguments or without
            parentheses.
        """
        if arguments:
            raise UsageError("@app.main takes no arguments", hint="write it as @app.main()")

        def register(function: MainT) -> MainT:
            if self._main is not None:
                raise UsageError(
                    "this ServerApp has a main function already", hint="an app has one; call both"
                )
            self._main = function
            return function

        return register

    def lifespan(self) -> Callable[[LifespanT], LifespanT]:
        """Register a generator function to run around ``main``.

        It takes the ``Context`` and yields exactly once. What stands before the ``yield`` runs
        before ``main``, what stands after it runs after it, also when ``main`` raises.

        Raises
        ------
        UsageError
            There is one already, or it is not a generator function. When the app runs: it yields
            not at all, or more than once.

        Examples
        --------
        >>> app = ServerApp()
        >>> @app.lifespan()
        ... def tracker(context):
        ...     print("open a tracker for", context.run_id)
        ...     yield
        ...     print("close it")
        """

        def register(function: LifespanT) -> LifespanT:
            if self._lifespan is not None:
                raise UsageError(
                    "this ServerApp has a lifespan already",
                    hint="an app has one lifespan; put both into it",
                )
            check_lifespan(function)
            self._lifespan = function
            return function

        return register

    def __call__(self, grid: Grid, context: Context) -> Any:
        """Run ``main`` inside the lifespan and return what it returns.

        Raises
        ------
        UsageError
            There is no main function.
        """
        if self._main is None:
            raise UsageError(
                "this ServerApp has no main function",
                hint="put @app.main() above the function that runs the federation",
            )
        if self._lifespan is None:
            return self._main(grid, context)
        with entered(self._lifespan, context):
            return self._main(grid, context)
