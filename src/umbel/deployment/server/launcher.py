"""The processes of server apps: started, watched, started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from umbel.base import environment_of_children

_ATTEMPTS_MAX = 5
_PAUSE_S = 0.5
_GOODBYE_S = 5.0

OnGone = Callable[[str, str], None]


class Launcher:
    """Keeps one process alive for each run that is running.

    Parameters
    ----------
    socket : Path
        Where the processes find the server.
    runs_dir : Path
        Holds a folder for each run; what its app prints goes to ``output.log`` there.
    on_gone : callable
        Called with a run and a reason when its process has died too often to be started again.
    """

    def __init__(self, socket: Path, runs_dir: Path, on_gone: OnGone) -> None:
        self._socket = socket
        self._runs_dir = runs_dir
        self._on_gone = on_gone
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._progress: set[str] = set()
        self._closed = False

    def start(self, run_id: str) -> None:
        """Start the process of a run, unless it is there or the server ends."""
        if run_id not in self._keepers and not self._closed:
            self._keepers[run_id] = asyncio.create_task(self._keep(run_id))

    def progressed(self, run_id: str) -> None:
        """Note that the run got on, so that an earlier death of its process counts no more."""
        self._progress.add(run_id)

    def process_id(self, run_id: str) -> int | None:
        """Return the id of the run's process, if there is one."""
        process = self._processes.get(run_id)
        return None if process is None else process.pid

    def stop(self, run_id: str) -> Coroutine[Any, Any, None]:
        """End the process of a run: first by SIGTERM, after some seconds by SIGKILL.

        The coroutine ends it; the run can be started again from now on.
        """
        self._progress.discard(run_id)
        return _end(self._keepers.pop(run_id, None), self._processes.pop(run_id, None))

    async def close(self) -> None:
        """End all processes; their runs go on when the server does."""
        self._closed = True
        await asyncio.gather(*(self.stop(run_id) for run_id in list(self._keepers)))

    def forget(self, run_id: str) -> None:
        """Let the process of a run that is over end by itself."""
        self._progress.discard(run_id)
        keeper = self._keepers.pop(run_id, None)
        self._processes.pop(run_id, None)
        if keeper is not None:
            keeper.cancel()

    async def _keep(self, run_id: str) -> None:
        deaths = 0
        while True:
            code = await self._run_once(run_id)
            if run_id in self._progress:
                self._progress.discard(run_id)
                deaths = 0
            deaths += 1
            if deaths >= _ATTEMPTS_MAX:
                cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
                self._keepers.pop(run_id, None)
                self._on_gone(
                    run_id, f"the process of the server app died {deaths} times ({cause})"
                )
                return
            await asyncio.sleep(_PAUSE_S * deaths)

    async def _run_once(self, run_id: str) -> int:
        folder = self._runs_dir / run_id
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "output.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "umbel.deployment.server.child",
                str(self._socket),
                run_id,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment_of_children(),
                start_new_session=True,  # Ctrl-C in the terminal is for the server alone
            )
        self._processes[run_id] = process
        return await process.wait()


async def _end(
    keeper: asyncio.Task[None] | None, process: asyncio.subprocess.Process | None
) -> None:
    if keeper is not None:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
    if process is None or process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_GOODBYE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
