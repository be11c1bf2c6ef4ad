"""A worker that is no process: the app is an object, and a thread answers with it."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import ExitStack, suppress
from typing import Any

from umbel.base import Seeds, limited_threads, preserved_globals
from umbel.clientapp import ClientApp, answer_task, error_fields

_TURNS = threading.Lock()
"""Clients in one process take turns: they share its random generators, threads and libraries."""


class ThreadWorker:
    """Answers with an app that this process holds; the counterpart of ``Worker``.

    Parameters
    ----------
    app : ClientApp
        The app.
    """

    def __init__(self, app: ClientApp) -> None:
        self._app = app
        self._run: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The process: this one."""
        return os.getpid()

    async def start(self, run: dict[str, Any]) -> dict[str, Any]:
        """Take note of the run; the app is loaded."""
        self._run = run
        return {"ready": True}

    async def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Have an order answered in a thread, and return its answer."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[dict[str, Any]] = loop.create_future()

        def tell(answer: dict[str, Any]) -> None:
            if not answered.done():
                answered.set_result(answer)

        def work() -> None:
            try:
                answer = self._answer(order)
            except BaseException as error:  # whatever it is: the node waits for an answer
                code, reason, kind, _ = error_fields(error)
                answer = {"failure": [code, kind or "", reason or ""]}
            with suppress(RuntimeError):  # the node has left, and nobody waits
                loop.call_soon_threadsafe(tell, answer)

        # A thread cannot be ended. As a daemon it does not keep alive a process that has to end.
        threading.Thread(target=work, name="umbel-client", daemon=True).start()
        return await answered

    async def end(self) -> None:
        """Leave a thread that is at work alone; what it comes to is dropped."""

    async def kill(self) -> None:
        """Leave a thread that is at work alone; what it comes to is dropped."""

    def _answer(self, order: dict[str, Any]) -> dict[str, Any]:
        seed, threads = self._run["seed"], self._run["threads"]
        with _TURNS, ExitStack() as stack:
            if threads is not None:
                stack.enter_context(limited_threads(threads))
            if seed is not None:
                stack.enter_context(preserved_globals())
            return answer_task(self._app, self._run, order, None if seed is None else Seeds(seed))
