"""The message plane at work: the coordinator's steps, journalled, and their effects carried out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from umbel.base import (
    Clock,
    NotAllowed,
    NotFound,
    Overloaded,
    TokenExpired,
    TokenUsed,
    UmbelError,
    UsageError,
)
from umbel.coordinator import (
    Ack,
    Answer,
    CancelTask,
    CloseSession,
    DeleteObject,
    DurableEvent,
    Effect,
    EraseRun,
    Event,
    LaunchRun,
    Limits,
    NotifyRun,
    Reject,
    RejectCode,
    RunOver,
    RunRemoved,
    SendTask,
    ServerStarted,
    State,
    StopRun,
    due,
    event_to_json,
    must_journal,
    next_deadline,
    outdated,
    restore,
    state_to_json,
    step,
)
from umbel.deployment.server.journalling import Journalling
from umbel.deployment.server.runspec import RunSpec
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.store import Journal, ObjectStore

_IDLE_OBJECT_S = 2.0
"""An object that nothing refers to stays so long after it was last asked for.

Someone may be about to refer to it; who comes too late stores it again. Longer would be dear: what
is deleted before the kernel has written it to the disk is never written.
"""

_LENT_S = 3600.0
"""What was put there for a user to pull stays so long after it was last asked for."""

_ORPHAN_S = 3600.0
"""What nothing has referred to for so long, say since a process was killed, is swept away."""

_SWEEP_S = 3600.0
"""How often is looked for what has had its time."""

_REJECTED: dict[RejectCode, type[UmbelError]] = {
    "busy": Overloaded,
    "ended": UsageError,
    "exists": UsageError,
    "expired": TokenExpired,
    "refused": NotAllowed,
    "unknown": NotFound,
    "used": TokenUsed,
}
_LOGGER = logging.getLogger("umbel.deployment")
OnRun = Callable[[str], None]


class Plane:
    """Holds the state and is the only one to change it; all in one asyncio loop.

    Parameters
    ----------
    limits : Limits
        How long is waited, and how much is held.
    journal : Journal
        Where durable events go before their effects are carried out.
    objects : ObjectStore
        Where bodies lie.
    clock : Clock
        Says when an event happens.
    launch, stop, erase : callable
        Start and end the process of a run's server app; delete what a removed run left behind.
    fsync : bool
        Whether the journal waits for the disk. It does so in a thread then, for all events at once
        that have happened meanwhile.
    """

    def __init__(
        self,
        limits: Limits,
        journal: Journal,
        objects: ObjectStore,
        clock: Clock,
        launch: OnRun,
        stop: OnRun,
        erase: OnRun,
        *,
        fsync: bool = False,
    ) -> None:
        self.state = State(limits=limits)
        self._limits = limits
        self.clock = clock
        self.objects = objects
        self._journal = journal
        self._launch = launch
        self._stop = stop
        self._erase = erase
        self._fsync = fsync
        self._sessions: dict[int, asyncio.Queue[wire.ToNode | None]] = {}
        self._session_numbers = itertools.count(1)
        self._awaited: dict[str, set[asyncio.Queue[str]]] = {}
        self._changed = asyncio.Event()
        self._journalling = self._journal_of(0)
        self._nodes_changed = asyncio.Condition()
        self._specs: dict[str, RunSpec] = {}
        self._unwanted: set[str] = set()
        self._lent: dict[str, set[str]] = {}
        self.software: dict[int, str] = {}
        self.codecs: dict[int, str] = {}

    def replay(self) -> None:
        """Bring the state to where the journal ends.

        Raises
        ------
        JournalCorrupt
            The journal was damaged.
        """
        number, snapshot = self._journal.latest_snapshot() or (0, None)
        entries = list(self._journal.read(number))
        self.state = restore(snapshot, entries, self._limits)
        self._journalling = self._journal_of(len(entries))

    def _journal_of(self, entries: int) -> Journalling:
        return Journalling(
            self._journal,
            entries,
            lambda: state_to_json(self.state),
            self._carry_out,
            self._on_broken,
            fsync=self._fsync,
        )

    def begin(self) -> None:
        """Go to work: runs that are running are launched again."""
        self.submit(ServerStarted(at=self.clock.now()))

    def submit(self, event: Event) -> asyncio.Future[None]:
        """Let an event happen: one step, journalled, its effects carried out.

        Returns
        -------
        Future
            Done when that is done. Await it before somebody is told that the event has happened.

        Raises
        ------
        UmbelError
            The coordinator refuses it; nothing has changed.
        """
        if self._journalling.broken is not None:
            raise self._journalling.broken
        effects = step(self.state, event)
        if effects and isinstance(effects[0], Reject):
            raise _REJECTED[effects[0].code](effects[0].reason)
        durable = must_journal(event, effects)
        entry = event_to_json(cast(DurableEvent, event)) if durable else None
        self._changed.set()
        return self._journalling.add(entry, effects)

    async def settled(self) -> None:
        """Wait until all that has happened by now is in the journal.

        Raises
        ------
        ConfigError
            The journal cannot be written any more.
        """
        await self._journalling.settled()

    async def keep_time(self) -> None:
        """Let happen what is due, for ever.

        Raises
        ------
        ConfigError
            The journal cannot be written any more.
        """
        sweep_at = self.clock.now()
        while True:
            self._changed.clear()  # first: what happens from here on is looked at next time
            if self._journalling.broken is not None:
                raise self._journalling.broken
            now = self.clock.now()
            for event in due(self.state, now):
                self.submit(event)
            self._drop_unwanted()
            if now >= sweep_at:
                self._forget(now)
                await self.settled()
                self.objects.sweep(self._is_used, _ORPHAN_S)
                sweep_at = now + _SWEEP_S
            wake_at = min(sweep_at, next_deadline(self.state) or sweep_at)
            wait_s: float | None = max(wake_at - now, 0.001)
            if self._unwanted:
                wait_s = min(wait_s or _IDLE_OBJECT_S, _IDLE_OBJECT_S)
            # Not asyncio.wait_for, which in Python 3.11 may swallow what cancels this loop.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    def spec(self, run_id: str) -> RunSpec:
        """Return what is to be known of a run to launch it and to tell nodes about it."""
        if run_id not in self._specs:
            self._specs[run_id] = RunSpec.decode(self.state.runs[run_id].spec)
        return self._specs[run_id]

    def lend(self, name: str, borrower: str) -> None:
        """Let somebody pull an object that nothing refers to; it is deleted some time later."""
        self._lent.setdefault(name, set()).add(borrower)
        self._unwanted.add(name)
        self._changed.set()

    def is_lent(self, name: str, borrower: str) -> bool:
        """Whether the object is there for this one to pull."""
        return borrower in self._lent.get(name, ())

    def open_session(self) -> tuple[int, asyncio.Queue[wire.ToNode | None]]:
        """Return the number of a new session and the queue of what goes to its node."""
        number = next(self._session_numbers)
        queue: asyncio.Queue[wire.ToNode | None] = asyncio.Queue()
        self._sessions[number] = queue
        return number, queue

    def dismiss(self, reason: str) -> None:
        """Tell every node that is connected that this server is not coming back."""
        for session in self._sessions:
            self._send(session, wire.ToNode(goodbye=wire.Goodbye(reason=reason, final=True)))
            self._send(session, None)

    def drop_session(self, session: int) -> None:
        """Forget the queue of a session."""
        self._sessions.pop(session, None)

    def answer(self, message_id: str) -> Answer | None:
        """Return the answer to a message, or ``None`` as long as there is none.

        Raises
        ------
        NotFound
            There is no such message, or not any more.
        ConfigError
            The journal cannot be written any more: there will be no answers.
        """
        if self._journalling.broken is not None:
            raise self._journalling.broken
        sent = self.state.messages.get(message_id)
        if sent is None:
            raise NotFound(
                f"there is no message {message_id!r}", hint="its reply was released, or never asked"
            )
        return sent.answer

    @contextlib.contextmanager
    def awaiting(self, message_ids: Iterable[str]) -> Iterator[asyncio.Queue[str]]:
        """Give a queue of the ids of those messages whose answers come from now on."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        ids = list(message_ids)
        for message_id in ids:
            self._awaited.setdefault(message_id, set()).add(queue)
        try:
            yield queue
        finally:
            for message_id in ids:
                queues = self._awaited.get(message_id, set())
                queues.discard(queue)
                if not queues:
                    self._awaited.pop(message_id, None)

    async def connected(self, at_least: int, timeout_s: float) -> list[int]:
        """Return the connected nodes once there are so many, or when the time has passed."""
        async with self._nodes_changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._nodes_changed.wait_for(
                        lambda: len(self.state.connected()) >= at_least
                    )
        return self.state.connected()

    async def nodes_changed(self) -> None:
        """Wake those who wait for nodes."""
        async with self._nodes_changed:
            self._nodes_changed.notify_all()

    def _on_broken(self) -> None:
        """Wake those who would wait for ever, to be told."""
        self._changed.set()
        for name, queues in self._awaited.items():
            for queue in queues:
                queue.put_nowait(name)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SendTask(session=session, message=message) if message.run in self.state.runs:
                self._send(session, wire.ToNode(task=self.spec(message.run).task(message)))
            case Ack(session=session, message=name):
                self._send(session, wire.ToNode(ack=wire.Ack(message_id=name)))
            case CancelTask(session=session, message=name, reason=reason):
                cancel = wire.Cancel(message_id=name, reason=reason)
                self._send(session, wire.ToNode(cancel=cancel))
            case RunOver(session=session, run=run, final=final):
                over = wire.RunOver(run_id=run, final=final)
                self._send(session, wire.ToNode(run_over=over))
            case NotifyRun(message=name):
                for queue in self._awaited.get(name, ()):
                    queue.put_nowait(name)
            case LaunchRun(run=run):
                self._launch(run)
            case StopRun(run=run):
                self._stop(run)
            case EraseRun(run=run):
                self._specs.pop(run, None)
                self._erase(run)
            case DeleteObject(hash=name):
                self._unwanted.add(name)
            case CloseSession(session=session, reason=reason):
                self._send(session, wire.ToNode(goodbye=wire.Goodbye(reason=reason)))
                self._send(session, None)
            case SendTask() | Reject():
                pass  # of a run that was removed meanwhile; raised by `submit`

    def _send(self, session: int, what: wire.ToNode | None) -> None:
        queue = self._sessions.get(session)
        if queue is not None:
            queue.put_nowait(what)

    def _forget(self, now: float) -> None:
        for event in outdated(self.state, now):
            if isinstance(event, RunRemoved):
                _LOGGER.info("removing run %s, which has been over for long enough", event.run)
            self.submit(event)

    def _is_used(self, name: str) -> bool:
        return name in self.state.references or name in self._lent

    def _drop_unwanted(self) -> None:
        for name in list(self._unwanted):
            if name in self.state.references:
                self._unwanted.discard(name)
            elif self.objects.delete(name, _LENT_S if name in self._lent else _IDLE_OBJECT_S):
                self._unwanted.discard(name)
                self._lent.pop(name, None)
