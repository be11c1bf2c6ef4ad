"""The simulation's loop: hands batches to workers and takes their reports."""

from __future__ import annotations

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

_LOST_IN_A_ROW_MAX = 3
"""Times the number of workers: they all die when the process they came from does."""


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
        self._states = StateStore()
        self._task_s: dict[str, float] = {}
        self._ending: dict[int, Error] = {}
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
        self._assign()

    def pump(self, timeout_s: float | None = None) -> None:
        """Hand out work, wait for something to happen, and deal with it.

        Raises
        ------
        Exception
            What an aggregator raised when it merged; its job is given up.
        NodeLost
            Workers end before they run a client.
        """
        self._assign()
        self._close_done()
        if not self.jobs:
            return
        if not any(state.job for state in self._workers):
            raise StateError("there is work left and no worker on it")
        now = SYSTEM_CLOCK.monotonic()
        waits = [t - now for t in self._alarms(now)] + ([] if timeout_s is None else [timeout_s])
        for event in self._executor.wait(max(0.0, min(waits)) if waits else None):
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

    def close(self) -> None:
        """End the workers and free all memory."""
        self._executor.close()
        self._states.close()

    def _assign(self) -> None:
        busy = {
            job.tasks[position].node_id
            for state in self._workers
            if (job := state.job) is not None and job.sums is None
            for position in state.positions
        }
        impatient_s = SYSTEM_CLOCK.monotonic() - _PATIENCE_S
        for worker, state in enumerate(self._workers):
            if state.job is not None:
                continue
            eager = state.idle_since_s <= impatient_s
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
        state = self._states.get(task.node_id)
        return task if state is None else task._replace(state=state)

    def _take_report(self, worker: int, report: Report) -> None:
        state = self._workers[worker]
        job, positions = state.job, state.positions
        if job is None:
            raise StateError("a worker reported without having been given work", worker=worker)
        state.job, state.positions = None, []
        state.idle_since_s = SYSTEM_CLOCK.monotonic()
        self._lost_in_a_row = 0
        tasks = len(job.open(positions))
        if tasks:
            latest = report.elapsed_s / tasks + 1e-9
            known = self._task_s.get(job.kind, latest)
            self._task_s[job.kind] = 0.7 * known + 0.3 * latest
        for node_id, body in report.states:
            self._states.put(node_id, body if body is None else self._executor.read(body))
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
            job.fault = job.fault or unpack_fault(report.fault)
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
        error = self._ending.pop(event.worker, crashed)
        if job is not None:
            for position in event.suspects:
                if job.overdue:
                    job.given_up.add(position)
                self._fail(job, position, error)
        if job is not None and not wanted:
            self._lost_in_a_row = 0 if event.suspects else self._lost_in_a_row + 1
        if self._lost_in_a_row > _LOST_IN_A_ROW_MAX * len(self._workers):
            raise NodeLost(
                f"workers end before they run a client: {event.reason}",
                hint="see what they printed; the machine may be out of memory",
            )
        for other in self.jobs:
            folded = uncommitted.get(other.number, [])
            # Their sums died with the worker: the same clients run again, to the same bits.
            other.settled -= len(other.open(folded))
            lost = folded + positions if other is job else folded
            other.put_nothing([p for p in lost if p in other.errors])
            again = other.open(lost)
            if other.overdue > 1:
                self._give_up(other, again)
            else:
                other.schedule.give_back(again)
        if job is not None:
            self._run.progress(job.settled, job.cohort, len(job.errors))

    def _fail(self, job: Job, position: int, error: Error) -> None:
        job.settle(position, Message(error, reply_to=job.messages[position]), error)
        self._run.fail(job.tasks[position].node_id, error, job.tasks[position].message_type)

    def _give_up(self, job: Job, positions: list[int]) -> None:
        for position in job.open(positions):
            job.given_up.add(position)
            self._fail(job, position, no_reply(job.timeout))
        job.put_nothing(positions)

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
                self._end(worker, f"the client ran longer than {limit:g} s", "ClientTimeout")

    def _expire(self, job: Job, now: float) -> None:
        job.overdue += 1
        # Replies that a worker had not handed over die with it. Their clients are not to blame for
        # the one that it was waiting for, so they run once more; at the second time nobody does.
        job.deadline_s = now + _AGAIN_S if job.overdue == 1 else None
        self._give_up(job, job.drop())
        for worker, state in enumerate(self._workers):
            if state.job is job and self._executor.can_kill:
                waited = no_reply(job.timeout)
                self._end(worker, waited.reason or "", waited.kind or "")

    def _end(self, worker: int, reason: str, kind: str) -> None:
        if worker not in self._ending:
            code = ErrorCode.REPLY_MESSAGE_UNAVAILABLE
            self._ending[worker] = Error(code, reason, kind=kind)
            self._executor.kill(worker)

    def _close_done(self) -> None:
        for job in [job for job in self.jobs if job.done]:
            self.jobs.remove(job)
            self.publisher.finish(job.number)
            if job.fault is not None:
                raise job.fault

    def release(self, job: Job) -> None:
        """Hear that the partial sums of a job have been read."""
        self._executor.finish(job.number)
