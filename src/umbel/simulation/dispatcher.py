"""The simulation's loop: hands batches to workers and takes their reports."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from umbel.base import SYSTEM_CLOCK, NodeLost, StateError
from umbel.records import Error, ErrorCode, Message, decode
from umbel.serverapp import Run, no_reply
from umbel.simulation.executor import Done, Executor, Lost
from umbel.simulation.job import Job, WorkerState
from umbel.simulation.merger import Merger
from umbel.simulation.publisher import Publisher
from umbel.simulation.states import StateStore
from umbel.simulation.tasks import Batch, Report, Task, unpack_fault
from umbel.simulation.worker import COMMIT_S
from umbel.updates import Aggregator, Span

BATCH_MIN_S = 0.001
BATCH_MAX_S = 0.008
"""Batches take about so long: long enough to hide the dispatch, short enough to share the work."""

_PATIENCE_S = 0.05
"""How long an idle worker leaves another its next batch before it takes a part of that."""

_AGAIN_S = 2 * COMMIT_S
"""How long clients may take that run again after a deadline; it was half of it the first time."""

_LOST_IN_A_ROW_MAX = 10
"""Times the number of workers: they all die when the process they came from does."""

_WAIT_MAX_S = 3_600.0
"""Selectors take no infinite wait; after this one they are asked again."""


class Dispatcher:
    """Works on jobs, the oldest first.

    Parameters
    ----------
    executor : Executor
        Where the workers are; it is started already.
    run : Run
        Hears of progress and failures.
    client_timeout_s : float, optional
        How many seconds one client may take.
    """

    def __init__(self, executor: Executor, run: Run, client_timeout_s: float | None) -> None:
        self._executor = executor
        self._run = run
        self._client_timeout_s = client_timeout_s
        self._workers = [WorkerState() for _ in range(executor.workers)]
        self.publisher = Publisher(executor, self._workers)
        self.jobs: list[Job] = []
        self.states = StateStore()
        self._task_s: dict[str, float] = {}
        # What workers are being ended for, and whose client that is: of none, whoever runs there.
        self._ending: dict[int, tuple[Error, int | None]] = {}
        self._events: deque[Done | Lost] = deque()
        self._lost_in_a_row = 0

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    def merger(self, aggregator: Aggregator[Any]) -> Merger:
        """Return what merges the partial sums of a job."""
        return self._executor.merger(aggregator)

    def begin(self, job: Job) -> None:
        """Take a job on; workers that are idle start at once."""
        self.jobs.append(job)
        with self._all_or_nothing():
            self._assign(SYSTEM_CLOCK.monotonic())

    def pump(self, timeout_s: float | None = None) -> None:
        """Hand out work, wait for something to happen, and deal with it.

        Raises
        ------
        Exception
            What an aggregator raised when it merged; its job is given up.
        NodeLost
            Workers end before they have done anything.
        """
        self._close_done()
        if not self.jobs:
            return
        with self._all_or_nothing():
            now = SYSTEM_CLOCK.monotonic()
            self._assign(now)
            if not any(state.job for state in self._workers):
                raise StateError("there is work left and no worker on it")
            self._events += self._executor.wait(self._patience(now, timeout_s))
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Done):
                    self._take_report(event.worker, event.report)
                else:
                    self._take_loss(event)
            self._ring(SYSTEM_CLOCK.monotonic())
        self._close_done()

    def finish(self, job: Job) -> None:
        """Work until a job is done."""
        while not job.done:
            self.pump()

    def release(self, job: Job) -> None:
        """Hear that the partial sums of a job have been read."""
        self._executor.finish(job.number)

    def close(self) -> None:
        """End the workers and free all memory."""
        self._executor.close()
        self.states.close()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Give up all jobs if Ctrl-C or an observer cuts this off: nobody knows how far it got."""
        try:
            yield
        except BaseException as error:
            while self.jobs:
                self.jobs[0].fault = self.jobs[0].fault or error
                self._close(self.jobs[0])
            raise

    def _assign(self, now: float) -> None:
        busy = {
            job.tasks[position].node_id
            for state in self._workers
            if (job := state.job) is not None and job.sums is None
            for position in state.positions
        }
        for worker, state in enumerate(self._workers):
            if state.job is not None:
                continue
            eager = state.idle_since_s + _PATIENCE_S <= now
            for job in self.jobs:
                positions = job.take(worker, *self._batch_size(job), busy, eager=eager)
                if positions or (state.uncommitted.get(job.number) and not job.remaining()):
                    self._submit(worker, state, job, positions)
                    break

    def _batch_size(self, job: Job) -> tuple[int, int]:
        """Return how many clients a batch should hold, at least and at most."""
        task_s = self._task_s.get(job.kind)
        if task_s is None:
            return 1, 1
        return max(1, int(BATCH_MIN_S / task_s)), max(1, int(BATCH_MAX_S / task_s))

    def _submit(self, worker: int, state: WorkerState, job: Job, positions: list[int]) -> None:
        batch = Batch(
            job.number,
            job.cohort,
            [self._with_state(job.tasks[p]) for p in job.open(positions)],
            job.pickled,
            # What follows, if it takes over from another worker, makes a sum of its own.
            commit=job.schedule.exhausted(worker),
        )
        self.publisher.equip(batch, state)
        state.job, state.positions = job, positions
        self._executor.submit(worker, batch)

    def _with_state(self, task: Task) -> Task:
        state = self.states.get(task.node_id)
        return task if state is None else task._replace(state=state)

    def _take_report(self, worker: int, report: Report) -> None:
        state = self._workers[worker]
        job, positions = state.job, state.positions
        if job is None:
            raise StateError("a worker reported without having been given work", worker=worker)
        state.job, state.positions = None, []
        state.idle_since_s = SYSTEM_CLOCK.monotonic()
        if job.fault is not None:
            self.release(job)  # it was given up meanwhile, and its nodes may be at work for another
            return
        if report.committed:
            self._lost_in_a_row = 0  # what is not handed over may be what it dies of
        tasks = len(job.open(positions))
        if tasks and report.fault is None:
            latest = report.elapsed_s / tasks + 1e-9
            known = self._task_s.get(job.kind, latest)
            self._task_s[job.kind] = 0.7 * known + 0.3 * latest
        for node_id, body in report.states:
            self.states.put(node_id, body if body is None else self._executor.read(body))
        for position, body in report.replies:
            content = decode(self._executor.read(body))
            job.settle(position, Message(content, reply_to=job.messages[position]))
        if job.sums is not None:
            job.settled += tasks - len(report.errors)
            state.uncommitted.setdefault(job.number, []).extend(positions)
            if report.committed:
                del state.uncommitted[job.number]
            self._merge(job, report.partials)
        for position, (code, reason, kind, trace) in report.errors:
            self._fail(job, position, Error(code, reason, kind=kind, traceback=trace))
        if report.fault is not None:
            job.fault = unpack_fault(report.fault)
        self._run.progress(job.settled, job.cohort, len(job.errors))

    def _merge(self, job: Job, partials: list[tuple[Span, Any]]) -> None:
        try:
            for span, payload in partials:
                job.put(span, payload)
        except Exception as error:  # the aggregator's; it ends this job and no other
            job.fault = job.fault or error

    def _take_loss(self, event: Lost) -> None:
        state = self._workers[event.worker]
        job, positions, uncommitted = state.job, state.positions, state.uncommitted
        state.reset()
        crashed = Error(ErrorCode.CLIENT_APP_CRASHED, event.reason, kind=event.kind)
        wanted = event.worker in self._ending
        error, client = self._ending.pop(event.worker, (crashed, None))
        # A client that was done just before its worker was ended leaves the next one in its place.
        suspects = event.suspects if client is None or client in event.suspects else ()
        for other in self.jobs:
            # Their sums died with the worker: the same clients run again, to the same bits.
            other.settled -= len(other.open(uncommitted.get(other.number, [])))
        if job is not None and job.fault is None:
            for position in job.open([*suspects]):
                if job.overdue:
                    job.given_up.add(position)
                self._fail(job, position, error)
        if job is not None and not wanted:
            self._lost_in_a_row = 0 if event.suspects else self._lost_in_a_row + 1
        if self._lost_in_a_row > _LOST_IN_A_ROW_MAX * len(self._workers):
            raise NodeLost(
                f"workers end before they have done anything: {event.reason}",
                hint="see what they printed; the machine may be out of memory",
            )
        for other in self.jobs:
            lost = uncommitted.get(other.number, []) + (positions if other is job else [])
            other.put_nothing([p for p in lost if p in other.errors])
            again = other.open(lost)
            if other.overdue > 1:
                self._give_up(other, again)
            else:
                other.schedule.give_back(again)
        if job is not None and job.fault is None:
            self._run.progress(job.settled, job.cohort, len(job.errors))

    def _fail(self, job: Job, position: int, error: Error) -> None:
        job.settle(position, Message(error, reply_to=job.messages[position]), error)
        self._run.fail(job.tasks[position].node_id, error, job.tasks[position].message_type)

    def _give_up(self, job: Job, positions: list[int]) -> None:
        for position in job.open(positions):
            job.given_up.add(position)
            self._fail(job, position, no_reply(job.timeout))
        job.put_nothing(positions)

    def _patience(self, now: float, timeout_s: float | None) -> float:
        """Return how many seconds to wait for workers."""
        waits = [_WAIT_MAX_S if timeout_s is None else timeout_s]
        return max(0.0, min(waits + [alarm - now for alarm in self._alarms(now)]))

    def _alarms(self, now: float) -> list[float]:
        """Return the times at which something becomes overdue."""
        alarms = [job.deadline_s for job in self.jobs if job.deadline_s is not None]
        if any(job.remaining() for job in self.jobs):
            # Something is left for another worker, which may be held up by one client.
            patient = [s.idle_since_s + _PATIENCE_S for s in self._workers if s.job is None]
            alarms += [alarm for alarm in patient if alarm > now]
        limit = self._client_timeout_s
        if limit is not None:
            for worker, state in enumerate(self._workers):
                if state.job is not None and worker not in self._ending:
                    running = self._executor.running(worker)
                    alarms.append((running.since_s if running else now) + limit)
        return alarms

    def _ring(self, now: float) -> None:
        """Deal with what has become overdue."""
        for job in self.jobs:
            if job.deadline_s is not None and now >= job.deadline_s and not job.done:
                self._expire(job, now)
        limit = self._client_timeout_s
        if limit is None:
            return
        for worker, state in enumerate(self._workers):
            running = self._executor.running(worker) if state.job is not None else None
            if running is not None and now - running.since_s >= limit:
                reason = f"the client ran longer than {limit:g} s"
                code = ErrorCode.REPLY_MESSAGE_UNAVAILABLE
                self._end(worker, Error(code, reason, kind="ClientTimeout"), running.position)

    def _expire(self, job: Job, now: float) -> None:
        job.overdue += 1
        # Replies that a worker had not handed over die with it. Their clients are not to blame for
        # the one that it was waiting for, so they run once more; at the second time nobody does.
        job.deadline_s = now + _AGAIN_S if job.overdue == 1 else None
        self._give_up(job, job.drop())
        for worker, state in enumerate(self._workers):
            if state.job is job and self._executor.can_kill:
                self._end(worker, no_reply(job.timeout))

    def _end(self, worker: int, error: Error, client: int | None = None) -> None:
        if worker not in self._ending:
            self._ending[worker] = error, client
            self._executor.kill(worker)

    def _close_done(self) -> None:
        for job in [job for job in self.jobs if job.done]:
            self._close(job)
            if job.fault is not None:
                raise job.fault

    def _close(self, job: Job) -> None:
        self.jobs.remove(job)
        self.publisher.finish(job.number)
