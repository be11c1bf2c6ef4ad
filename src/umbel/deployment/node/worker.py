"""The agent's side of a worker process: starting it, giving it tasks, seeing it die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from umbel.base import NodeLost, StateError, environment_of_children, exit_text

_LINE_MAX_BYTES = 16 * 1024 * 1024
_GOODBYE_S = 0.5

OnOutput = Callable[[int, str], None]
"""Called with the worker's pid and a line that it printed."""


class Worker:
    """One process with one app, for one run."""

    def __init__(self, app_dir: Path, on_output: OnOutput) -> None:
        self._app_dir = app_dir
        self._on_output = on_output
        self._output: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def start(self, run: dict[str, Any]) -> dict[str, Any]:
        """Start the process and let it load the app; return what it says about that.

        Raises
        ------
        NodeLost
            It ended while it loaded the app.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "umbel.clientapp.process"),
                *(str(theirs.fileno()), str(os.getpid())),
                pass_fds=[theirs.fileno()],
                env=environment_of_children(),
                cwd=self._app_dir,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for the agent alone
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LINE_MAX_BYTES)
        self._output = asyncio.create_task(self._read_output())
        return await self.ask(run)

    async def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Give the worker an order and return its answer.

        Raises
        ------
        NodeLost
            It ended before it answered.
        """
        with suppress(ConnectionError):  # that it ended is told by what can be read
            self._writer.write(json.dumps(order).encode() + b"\n")
            await self._writer.drain()
        try:
            line = await self._reader.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise await self._death()
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def end(self) -> None:
        """End the process and all that it started."""
        self._writer.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End the process and all that it started at once, whatever it is doing."""
        self._writer.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        if self._output is not None:
            await self._output

    async def _death(self) -> NodeLost:
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._process.wait()
        await self.kill()
        if self._process.returncode is None:
            raise StateError("a worker neither lives nor ended")
        kind, text = exit_text(self._process.returncode)
        return NodeLost(text, kind=kind)

    async def _read_output(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        rest = b""
        while data := await stream.read(65_536):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LINE_MAX_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._on_output(self.pid, line.decode(errors="replace"))
        if rest:
            self._on_output(self.pid, rest.decode(errors="replace"))
