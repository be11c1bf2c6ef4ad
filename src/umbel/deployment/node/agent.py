"""The node's agent: keeps connected, takes tasks, and lets go of a reply when it is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from umbel.base import (
    SYSTEM_CLOCK,
    PolicyRefused,
    ProtocolError,
    Seeds,
    UmbelError,
    Unreachable,
    new_id,
)
from umbel.clientapp import error_fields
from umbel.deployment.atomic import PRIVATE, private_folder, write_atomically
from umbel.deployment.errors import may_pass
from umbel.deployment.identity import Identity
from umbel.deployment.node.apps import app_folder
from umbel.deployment.node.connection import Connection, connected
from umbel.deployment.node.delivery import deliver
from umbel.deployment.node.guard import Guard
from umbel.deployment.node.journal import Failure, Journal, Outcome, check_names
from umbel.deployment.node.objects import ObjectCache
from umbel.deployment.node.renewal import keep_certificate
from umbel.deployment.node.runs import LocalRun
from umbel.deployment.node.settings import NodeEvent, NodeSettings, OnEvent
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import DEFAULT_CODEC, ErrorCode

T = TypeVar("T")

_PAUSE_MIN_S, _PAUSE_MAX_S = 1.0, 30.0
_RETRY_S = 1.0


async def run_node(
    settings: NodeSettings,
    on_event: OnEvent = lambda event: None,
    leave: asyncio.Event | None = None,
) -> None:
    """Be a node until told to leave.

    A connection that fails is made again, for ever.

    Parameters
    ----------
    settings : NodeSettings
        What the owner decides.
    on_event : callable
        Called with what happens.
    leave : asyncio.Event, optional
        When it is set, the tasks at hand are finished, their replies delivered if the server is
        there, and the call returns.

    Raises
    ------
    ConfigError
        The data folder cannot be used.
    """
    agent = Agent(settings, on_event)
    try:
        await agent.run(leave or asyncio.Event())
    finally:
        await agent.close()


class Agent:
    """The agent of one node; see ``run_node``."""

    def __init__(self, settings: NodeSettings, on_event: OnEvent) -> None:
        self._settings = settings
        self._on_event = on_event
        self._secret = _secret(settings.data_dir / "identity")
        self._journal = Journal(settings.data_dir)
        self._cache = ObjectCache(settings.data_dir / "objects", settings.cache_max_bytes)
        self._guard = (
            None
            if settings.policy is None
            else Guard(settings.policy, self._journal, settings.data_dir, on_event)
        )
        self._runs: dict[str, LocalRun] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: set[str] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._connection: asyncio.Future[Connection] = asyncio.Future()
        self._acknowledged = asyncio.Event()
        self._is_leaving = False

    async def run(self, leave: asyncio.Event) -> None:
        """Stay connected and work until ``leave`` is set and what is at hand is done."""
        if self._guard is not None:
            self._say("policy", str(self._guard))
        sessions = asyncio.create_task(self._stay_connected())
        leaving = asyncio.create_task(leave.wait())
        try:
            await asyncio.wait({sessions, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sessions.done():
                await sessions
            await self._finish()
        finally:
            await _end({sessions, leaving})

    async def close(self) -> None:
        """End all workers and let another process use the folder."""
        await _end({*self._tasks.values(), *self._chores, *self._deliveries})
        for run in self._runs.values():
            await run.close()
        if self._guard is not None:
            self._guard.close()
        self._journal.close()
        self._say("left", "the node has left")

    async def _finish(self) -> None:
        """Finish the tasks that run, and hand over what is done if the server is there."""
        self._is_leaving = True
        work = f", once its {len(self._running)} tasks are done" if self._running else ""
        self._say("leaving", f"the node leaves{work}")
        begun = [task for name, task in self._tasks.items() if name in self._running]
        await _end({task for name, task in self._tasks.items() if name not in self._running})
        if begun:
            await asyncio.wait(begun)
        while self._journal.done() and self._connection.done():
            self._acknowledged.clear()
            lost = asyncio.create_task(self._connection.result().lost.wait())
            acknowledged = asyncio.create_task(self._acknowledged.wait())
            await asyncio.wait({lost, acknowledged}, return_when=asyncio.FIRST_COMPLETED)
            gone = lost.done()
            await _end({lost, acknowledged})
            if gone:
                break
        if self._connection.done():
            await self._connection.result().leave()

    # ---- The session

    async def _stay_connected(self) -> None:
        chance = Seeds().child("reconnecting").python()
        failures = 0
        while True:
            self._say("connecting", f"connecting to {self._settings.address}")
            try:
                held = [*self._tasks, *(outcome.message_id for outcome in self._journal.done())]
                settings, identity = self._shown()
                async with connected(settings, self._secret, held) as connection:
                    failures = 0
                    await self._serve(connection, identity)
            except UmbelError as error:
                limit_s = min(_PAUSE_MAX_S, _PAUSE_MIN_S * 2**failures)
                pause_s = chance.uniform(_PAUSE_MIN_S, limit_s) if failures else _PAUSE_MIN_S
                failures = min(failures + 1, 10)
                self._say("disconnected", f"{error} (trying again in {pause_s:.1f} s)")
                await asyncio.sleep(pause_s)

    def _shown(self) -> tuple[NodeSettings, Identity | None]:
        """Return what to connect with, with the certificate that is in the folder by now."""
        folder = self._settings.identity_dir
        if folder is None:
            return self._settings, None
        identity = Identity.load(folder)
        identity.check_valid(SYSTEM_CLOCK.now())
        return replace(self._settings, credentials=identity.credentials), identity

    async def _serve(self, connection: Connection, identity: Identity | None) -> None:
        """Take what the server sends until the session ends."""
        self._connection.set_result(connection)
        self._say(
            "connected",
            f"connected to {self._settings.address} as node {connection.welcome.node_id}",
        )
        beside = {asyncio.create_task(connection.beat())}
        if identity is not None and (folder := self._settings.identity_dir) is not None:
            say = partial(self._say, "certificate")
            keeping = keep_certificate(identity, folder, connection.renewal, say)
            beside.add(asyncio.create_task(keeping))
        try:
            for outcome in self._journal.done():
                self._deliver(outcome)
            async for message in connection.messages():
                await self._take(message, connection)
        finally:
            self._connection = asyncio.Future()
            await _end({*beside, *self._deliveries})

    async def _take(self, message: wire.ToNode, connection: Connection) -> None:
        match message.WhichOneof("kind"):
            case "task":
                await self._accept(message.task, connection)
            case "ack":
                self._forget(message.ack.message_id, "acknowledged", "the server has the reply")
            case "cancel":
                await self._cancel(message.cancel)
            case "run_over":
                self._chore(self._forget_run(message.run_over.run_id, message.run_over.final))
            case "goodbye" if message.goodbye.final:
                self._say("dismissed", message.goodbye.reason)
            case "goodbye":
                raise Unreachable(f"the server ends the session: {message.goodbye.reason}")
            case _:
                pass  # a heartbeat, or what a newer server says

    async def _accept(self, task: wire.Task, connection: Connection) -> None:
        check_names(task.run.run_id, task.message_id)
        if self._is_leaving:
            return  # the server sends it again, to whom comes back
        name = task.message_id
        outcome = self._journal.find(name)
        if outcome is None and name not in self._tasks:
            node_id = int(connection.welcome.node_id)
            handling = asyncio.create_task(self._handle(task, node_id), name=task.run.run_id)
            self._tasks[name] = handling
            self._say("accepted", task.message_type, task.run.run_id, name)
        await connection.send(wire.FromNode(accepted=wire.Accepted(message_id=name)))
        if outcome is not None:
            self._deliver(outcome)

    async def _cancel(self, cancel: wire.Cancel) -> None:
        task = self._tasks.get(cancel.message_id)
        if task is not None:
            await _end({task})
        self._forget(cancel.message_id, "cancelled", cancel.reason or "not wanted any more")

    def _forget(self, message_id: str, kind: str, text: str) -> None:
        self._journal.forget(message_id)
        self._acknowledged.set()
        self._say(kind, text, message_id=message_id)

    async def _forget_run(self, run_id: str, final: bool) -> None:
        check_names(run_id)
        await _end({task for task in self._tasks.values() if task.get_name() == run_id})
        self._opening.pop(run_id, None)
        run = self._runs.pop(run_id, None)
        if run is not None:
            await run.close()
        self._journal.forget_run(run_id, with_state=final)
        self._cache.forget_run(run_id)
        self._acknowledged.set()
        text = "forgotten" if final else "ended; its state is kept, as it may be resumed"
        self._say("run_over", text, run_id)

    # ---- Tasks

    async def _handle(self, task: wire.Task, node_id: int) -> None:
        """Bring a task to its end, and what came of it on its way."""
        ids = (task.run.run_id, task.message_id)
        try:
            try:
                outcome = await self._execute(task, node_id)
            except Exception as error:  # whatever it is: somebody waits for an answer
                expected = isinstance(error, UmbelError)
                code = ErrorCode.MESSAGE_UNAVAILABLE if expected else ErrorCode.UNKNOWN
                outcome = self._failed(*ids, error, code)
                with suppress(OSError):  # a full disk, say: the server is told all the same
                    self._journal.commit(outcome)
        finally:
            self._tasks.pop(task.message_id, None)
            self._running.discard(task.message_id)
        failure = outcome.failure
        if failure is None:
            self._say("finished", f"{outcome.size_bytes} bytes", *ids)
        else:
            self._say("failed", f"{failure.kind}: {failure.reason}", *ids)
        self._deliver(outcome)

    async def _execute(self, task: wire.Task, node_id: int) -> Outcome:
        if self._guard is not None:
            self._guard.admit(task)
        if (task.codec or DEFAULT_CODEC) not in self._settings.codecs:
            raise ProtocolError(
                f"the message was made for a node that reads {task.codec or DEFAULT_CODEC!r}, and "
                f"this one reads {', '.join(self._settings.codecs)}",
                hint="what is sent from now on fits; or start the node with that codec as well",
            )
        try:
            run = await self._run_of(task.run, node_id)
        except UmbelError as error:
            ids = (task.run.run_id, task.message_id)
            outcome = self._failed(*ids, error, ErrorCode.INVALID_FAB)
            self._journal.commit(outcome)
            return outcome
        try:
            with self._cache.held(task.body.hash):
                body = await self._body(task) if task.body.hash else None
                self._running.add(task.message_id)
                return await run.execute(task, body)
        finally:
            run.users -= 1

    async def _run_of(self, info: wire.RunInfo, node_id: int) -> LocalRun:
        """Return what is here of a run, with the caller as its user; find its app first."""
        async with self._opening.setdefault(info.run_id, asyncio.Lock()):
            run = self._runs.pop(info.run_id, None)
            if run is None:
                await self._close_idle()
                folder = await app_folder(self._settings, info, self._read)
                own = (self._settings, self._journal, self._on_event, self._guard)
                run = LocalRun(info, folder, node_id, *own)
            run.users += 1
            self._runs[info.run_id] = run  # the last used stands last
            return run

    async def _close_idle(self) -> None:
        """End the workers that have been idle for longest, beyond one for each task at once."""
        idle = [name for name, run in self._runs.items() if not run.users]
        for name in idle[: max(0, len(self._runs) - self._settings.max_tasks + 1)]:
            await self._runs.pop(name).close()

    async def _body(self, task: wire.Task) -> Path:
        self._cache.turn_to(task.run.run_id, task.body.hash)
        return await self._fetch(task.body)

    async def _fetch(self, item: wire.Object) -> Path:
        return await self._with_server(
            lambda server: self._cache.fetch(server.objects, item, server.accepts)
        )

    async def _read(self, item: wire.Object) -> bytes:
        with self._cache.held(item.hash):
            return (await self._fetch(item)).read_bytes()

    async def _with_server(self, use: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """Use the connection, and the next one when it fails."""
        while True:
            connection = await asyncio.shield(self._connection)
            try:
                return await connection.during(use(connection))
            except UmbelError as error:
                if not may_pass(error):
                    raise
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S):
                    await connection.lost.wait()

    def _failed(self, run_id: str, message_id: str, error: Exception, code: ErrorCode) -> Outcome:
        if self._guard is not None and isinstance(error, PolicyRefused):
            return self._guard.refusal(run_id, message_id, error)
        number, reason, kind, _ = error_fields(error, code, with_traceback=False)
        policy = "" if self._guard is None else self._guard.policy.digest
        failure = Failure(number, kind or "", reason or "")
        return Outcome(run_id, message_id, failure=failure, policy=policy)

    def _deliver(self, outcome: Outcome) -> None:
        """Begin to hand over what came of a task, if the server is there."""
        if self._connection.done():
            task = asyncio.create_task(
                deliver(self._connection.result(), self._journal, outcome, self._on_event)
            )
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _say(self, kind: str, text: str, run_id: str = "", message_id: str = "") -> None:
        self._on_event(NodeEvent(kind, text, run_id, message_id))


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _secret(folder: Path) -> bytes:
    """Return the bytes by which a server without TLS knows this node again."""
    private_folder(folder)
    file = folder / "secret"
    if not file.exists():
        write_atomically(file, f"{new_id()}{new_id()}".encode(), mode=PRIVATE)
    return file.read_bytes()
