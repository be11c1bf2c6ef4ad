"""A run at a node: one warm worker, and its tasks one after the other."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from functools import partial
from pathlib import Path
from typing import Any

from umbel.base import AppProject, NodeLost
from umbel.deployment.node.guard import Guard
from umbel.deployment.node.journal import Failure, Journal, Outcome
from umbel.deployment.node.settings import NodeEvent, NodeSettings, OnEvent
from umbel.deployment.node.thread import ThreadWorker
from umbel.deployment.node.worker import Worker
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ErrorCode

_FLWR_SETUP = "umbel.flwr:install"

ATTEMPTS = 3
"""How often a task is run whose worker dies."""


class LocalRun:
    """What a node has of one run.

    ``users`` counts the tasks that run here or soon will; the node ends the worker of a run only
    when there are none.

    Parameters
    ----------
    info : RunInfo
        The run.
    app_dir : Path
        The folder of its app.
    node_id : int
        Who the server says that this node is.
    settings : NodeSettings
        The owner's.
    journal : Journal
        Where what came of tasks is kept.
    on_event : callable
        Called with what happens.
    guard : Guard, optional
        Around all that the app does.
    """

    def __init__(
        self,
        info: wire.RunInfo,
        app_dir: Path,
        node_id: int,
        settings: NodeSettings,
        journal: Journal,
        on_event: OnEvent,
        guard: Guard | None = None,
    ) -> None:
        self.info = info
        self._guard = guard
        self._node_id = node_id
        self._settings = settings
        self._journal = journal
        self._app_dir = app_dir
        self._on_event = on_event
        self.users = 0
        self._turn = asyncio.Lock()
        self._worker: Worker | ThreadWorker | None = None

    async def execute(self, task: wire.Task, body: Path | None) -> Outcome:
        """Run a task when those before it are done, and commit what came of it.

        A worker that dies is started again, and the task is run again from the old state. If this
        call is cancelled, a worker that is busy with the task is ended.
        """
        async with self._turn:
            if self._guard is None:
                outcome = await self._attempts(task, body)
            else:
                app, work = self._app_name(), partial(self._attempts, task, body)
                outcome = await self._guard.execute(task, body, app, work)
            self._journal.commit(outcome)
        return outcome

    async def kill(self) -> None:
        """End the worker at once, whatever it is doing."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.kill()

    async def close(self) -> None:
        """End the worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.end()

    async def _attempts(self, task: wire.Task, body: Path | None) -> Outcome:
        ids = (task.run.run_id, task.message_id)
        death = NodeLost("no attempt was made")
        for attempt in range(1, ATTEMPTS + 1):
            desk = self._journal.prepare(*ids)
            order = {
                "envelope": [
                    task.message_id,
                    task.message_type,
                    task.group_id,
                    task.created_at,
                    task.ttl_s,
                ],
                "body": None if body is None else str(body),
                "records": b64encode(task.records).decode(),
                "codec": task.codec,
                "state": str(desk.state),
                "new_state": str(desk.new_state),
                "reply": str(desk.reply),
            }
            try:
                worker, failure = await self._ready_worker()
                if worker is None:
                    return Outcome(*ids, failure=failure)
                self._say("started", f"attempt {attempt}", task.message_id, worker.pid)
                answer = await worker.ask(order)
            except NodeLost as error:
                self._worker, death = None, error
                self._say(
                    "worker",
                    f"attempt {attempt} of {ATTEMPTS}: {error.message}",
                    task.message_id,
                )
                continue
            except asyncio.CancelledError:
                await self.kill()
                raise
            if "failure" in answer:
                return Outcome(*ids, failure=_failure(answer["failure"]))
            size, digest, has_state = answer["size_bytes"], answer["hash"], answer["has_state"]
            return Outcome(*ids, size, digest, has_state=has_state, codec=task.codec)
        kind = str(death.context.get("kind", "NodeLost"))
        reason = f"{ATTEMPTS} attempts ended in the death of the client's process; the last time "
        failure = Failure(int(ErrorCode.CLIENT_APP_CRASHED), kind, reason + death.message)
        return Outcome(*ids, failure=failure)

    async def _ready_worker(self) -> tuple[Worker | ThreadWorker | None, Failure | None]:
        """Return a worker that has loaded the app, or why there is none."""
        if self._worker is not None:
            return self._worker, None
        worker = self._worker = self._new_worker()
        answer = await worker.start(self._order())
        if "failure" in answer:
            await self.kill()
            return None, _failure(answer["failure"])
        self._say("worker", "loaded the app", pid=worker.pid)
        return worker, None

    def _new_worker(self) -> Worker | ThreadWorker:
        if self._settings.client_app is not None:
            return ThreadWorker(self._settings.client_app)
        if self._guard is not None and not self._guard.policy.output:
            return Worker(self._app_dir, lambda pid, line: None)
        return Worker(self._app_dir, lambda pid, line: self._say("output", line, pid=pid))

    def _order(self) -> dict[str, Any]:
        threads = self._settings.threads
        return {
            "run_id": self.info.run_id,
            "client_app": self.info.client_app,
            "app_dir": str(self._app_dir),
            # What the app itself declares counts: no server has a function of its choice called.
            "setup": self._setup(),
            "seed": self.info.seed if self.info.seeded else None,
            # Sums depend on the number of threads, and a simulation's clients use one.
            "threads": 1 if threads is None and self.info.seeded else threads,
            "node_id": self._node_id,
            "node_config": {
                "partition-id": self._node_id,
                **self._settings.node_config,
                **({} if self._guard is None else self._guard.node_config),
            },
            "run_config": json.loads(self.info.run_config or "{}"),
        }

    def _app_name(self) -> str:
        if self._settings.client_app is not None:
            return ""
        return AppProject.read(self._app_dir).name

    def _setup(self) -> str | None:
        if self._settings.client_app is not None:
            return None
        return _FLWR_SETUP if "flwr" in AppProject.read(self._app_dir).tools else None

    def _say(self, kind: str, text: str, message_id: str = "", pid: int = 0) -> None:
        self._on_event(NodeEvent(kind, text, self.info.run_id, message_id, pid))


def _failure(fields: list[Any]) -> Failure:
    code, kind, reason = fields
    return Failure(int(code), str(kind), str(reason))
