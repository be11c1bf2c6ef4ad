"""The engine's side of the process that loads the app, and forks workers or becomes one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from umbel.base import THREADS_ENVIRONMENT, AppLoadError, environment_of_children, exit_text
from umbel.simulation.channel import Channel, Closed
from umbel.simulation.resources import WorkerPlan
from umbel.simulation.tasks import AppSpec

_START = "import sys; from umbel.simulation.template import main; sys.exit(main(int(sys.argv[1])))"
_GOODBYE_S = 0.5
_LOAD_S = 600.0


class Template:
    """A process that has loaded the app, and forks workers or becomes one."""

    def __init__(self, spec: AppSpec, plan: WorkerPlan) -> None:
        self._spec = spec
        self._plan = plan

    def launch(self) -> None:
        """Start the process; it loads the app while the engine goes on."""
        self.channel, theirs = Channel.pair()
        values = {
            **environment_of_children(),
            **dict.fromkeys(THREADS_ENVIRONMENT, "1"),
            **self._plan.environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=values,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for the engine alone
        )
        theirs.close()
        self._ready = self.ended = False
        path = [entry or os.getcwd() for entry in sys.path]
        with contextlib.suppress(Closed):  # what ended it is told by `wait_ready`
            self.channel.send((tuple(self._spec), path))

    def wait_ready(self) -> None:
        """Wait until the app is loaded.

        Raises
        ------
        AppLoadError
            It cannot be loaded.
        """
        if self._ready:
            return
        self.channel.sock.settimeout(_LOAD_S)
        try:
            answer, _ = self.channel.receive()
        except Closed:
            raise self._not_loaded() from None
        self.channel.sock.settimeout(None)
        if answer[0] == "failed":
            _, message, hint, where, trace = answer
            error = AppLoadError(message, hint=hint, **where)
            error.add_note(f"In the process that loads the client app:\n{trace}")
            raise error
        self._ready = True

    def _not_loaded(self) -> AppLoadError:
        try:
            code = self.process.wait(_GOODBYE_S)
            text = f"the process that imports the client app ended: {exit_text(code)[1]}"
            hint = "see what it printed above"
        except subprocess.TimeoutExpired:
            text = f"the client app was not imported within {_LOAD_S:g} s"
            hint = "let the module only define the app, and load data where it is first used"
        return AppLoadError(text, hint=hint, app=self._spec.reference)

    def start_worker(self, fds: list[int]) -> int:
        """Return the pid of a new worker that owns these descriptors."""
        self.wait_ready()
        if self._plan.fork:
            self.channel.send(("fork",), fds)
            return int(self.channel.receive()[0])
        self.channel.send(("become",), fds)
        return self.process.pid

    def reap(self, pid: int) -> int | None:
        """End a worker, if it has not ended; return its exit code, negative for a signal.

        It is ``None`` for the worker of an earlier process, and once this one has ended itself.
        """
        if not self._plan.fork:
            self.process.kill()
            return self.process.wait()
        try:
            self.channel.send(("reap", pid))
            code: int | None = self.channel.receive()[0]
        except Closed:
            self.ended = True
            return None
        return code

    def close(self) -> None:
        """End the process and all that it and its workers started."""
        self.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GOODBYE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
