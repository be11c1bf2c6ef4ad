"""Clients in long-lived processes that share memory with the engine."""

from __future__ import annotations

import contextlib
import mmap
import os
import selectors
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

from umbel.base import NodeLost, exit_text, raise_open_files_limit
from umbel.simulation.channel import Channel, Closed
from umbel.simulation.executor import Done, Executor, Lost, Running, join
from umbel.simulation.launcher import Template
from umbel.simulation.resources import WorkerPlan
from umbel.simulation.segments import (
    INLINE_MAX_BYTES,
    Segment,
    SegmentPool,
    SegmentReader,
    open_segment,
)
from umbel.simulation.tasks import AppSpec, Batch, Buffers, Report
from umbel.simulation.template import PROGRESS

_ORPHANED = "SIGKILL", "its process and the one it came from were ended"


@dataclass
class Handle:
    """The engine's side of one worker.

    Attributes
    ----------
    reader : SegmentReader
        Its partial sums as the engine maps them.
    holds, asked : set, list of int
        The blobs that it maps, and those that it was asked to let go of.
    spent : list of (int, bool)
        Its segments whose partial sums were read, and whether it can use them again.
    closed : list of int
        The engine's segments that were given up, for it to hear of.
    """

    template: Template
    pid: int
    channel: Channel
    progress: mmap.mmap
    busy: bool = False
    reader: SegmentReader = field(default_factory=SegmentReader)
    holds: set[int] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)
    spent: list[tuple[int, bool]] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)


@dataclass
class Blob:
    """A published body: its memory, and whether anything may still read it.

    A small body is sent along with the first batch that needs it, and holds no descriptor.
    """

    segment: Segment | None
    size: int
    small: bytes = b""
    retired: bool = False
    kept_by_client: bool = False


class ProcessExecutor(Executor):
    """Workers forked from a process that has loaded the app.

    Parameters
    ----------
    spec : AppSpec
        The app and the run.
    plans : sequence of WorkerPlan
        One a worker: which devices it sees, and how it is started.
    """

    def __init__(self, spec: AppSpec, plans: Sequence[WorkerPlan]) -> None:
        self.workers = len(plans)
        self._spec = spec
        self._plans = plans
        self._templates: list[Template] = []
        self._handles: list[Handle] = []
        self._blobs: dict[int, Blob] = {}
        self._pool = SegmentPool()
        self._selector = selectors.DefaultSelector()
        # By job, the segments of workers that hold its partial sums, as (worker, number).
        self._borrowed: dict[int, list[tuple[int, int]]] = {}

    def launch(self) -> None:
        raise_open_files_limit()  # every array that is sent or received holds a descriptor
        shared: Template | None = None
        for plan in self._plans:
            if not plan.fork or shared is None:
                template = Template(self._spec, plan)
                template.launch()
                self._templates.append(template)
                shared = template if plan.fork else None

    def start(self) -> None:
        for worker in range(self.workers):
            self._handles.append(self._new_handle(self._template_of(worker)))
            self._watch(worker)

    def publish(self, blob: int, buffers: Buffers) -> None:
        if sum(len(buffer) for buffer in buffers) <= INLINE_MAX_BYTES:
            self._blobs[blob] = Blob(None, 0, join(buffers))
        else:
            self._blobs[blob] = Blob(*self._pool.write(buffers))

    def retire(self, blob: int) -> None:
        self._blobs[blob].retired = True
        self._reuse(blob)

    def submit(self, worker: int, batch: Batch) -> None:
        handle = self._handles[worker]
        blobs = {blob: self._blobs[blob] for blob in batch.blobs}
        handle.holds |= blobs.keys()
        handle.busy = True
        value = (
            batch.job,
            batch.cohort,
            [tuple(task) for task in batch.tasks],
            batch.aggregator,
            batch.commit,
            {key: tuple(spec) for key, spec in batch.contents.items()},
            {
                key: (blob.segment.number, blob.size) if blob.segment else blob.small
                for key, blob in blobs.items()
            },
            batch.forget_contents,
            batch.forget_blobs,
            handle.spent,
            handle.closed,
        )
        handle.asked, handle.spent, handle.closed = batch.forget_blobs, [], []
        with contextlib.suppress(Closed):  # the selector will say so
            fds = [blob.segment.fd for blob in blobs.values() if blob.segment]
            handle.channel.send(value, fds)

    def wait(self, timeout_s: float | None) -> list[Done | Lost]:
        events: list[Done | Lost] = []
        for key, _ in self._selector.select(timeout_s):
            worker: int = key.data
            try:
                events.append(Done(worker, self._receive(worker)))
            except Closed:
                events.append(self._replace(worker))
        return events

    def running(self, worker: int) -> Running | None:
        position, since = PROGRESS.unpack_from(self._handles[worker].progress)
        return Running(position, since) if position >= 0 else None

    def kill(self, worker: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._handles[worker].pid, signal.SIGKILL)

    def finish(self, job: int) -> None:
        # Its partial sums have been read: their memory can be written again.
        for worker, number in self._borrowed.pop(job, []):
            handle = self._handles[worker]
            handle.spent.append((number, handle.reader.release(number)))

    def close(self) -> None:
        for handle in self._handles:
            if handle.busy:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(handle.pid, signal.SIGKILL)
            handle.channel.close()
        for template in self._templates:
            template.close()
        for blob in self._blobs.values():
            if blob.segment is not None:
                blob.segment.close()
        self._blobs.clear()
        self._handles.clear()
        self._templates.clear()
        self._pool.close()
        self._selector.close()

    def _template_of(self, worker: int) -> Template:
        return self._templates[0 if self._plans[worker].fork else worker]

    def _new_handle(self, template: Template) -> Handle:
        ours, theirs = Channel.pair()
        progress = Segment()
        os.ftruncate(progress.fd, mmap.PAGESIZE)
        try:
            pid = template.start_worker([theirs.fileno(), progress.fd])
            mapped = mmap.mmap(progress.fd, mmap.PAGESIZE)
        except BaseException as error:
            ours.close()
            if isinstance(error, Closed | OSError):
                raise NodeLost(
                    "no worker can be started: the process to fork it from ended",
                    hint="see what it printed; the machine may be out of memory",
                ) from error
            raise
        finally:
            theirs.close()
            progress.close()
        PROGRESS.pack_into(mapped, 0, -1, 0.0)
        return Handle(template, pid, ours, mapped)

    def _watch(self, worker: int) -> None:
        self._selector.register(self._handles[worker].channel, selectors.EVENT_READ, worker)

    def _receive(self, worker: int) -> Report:
        handle = self._handles[worker]
        value, fds = handle.channel.receive()
        handle.busy = False
        fields, closed = value
        report = Report(*fields)
        waiting = iter(fds)
        handle.reader.forget(closed)
        report.replies = [
            (key, open_segment(next(waiting), body) if isinstance(body, int) else body)
            for key, body in report.replies
        ]
        for index, (span, body) in enumerate(report.partials):
            if isinstance(body, tuple):
                number, size = body
                opened = handle.reader.open(number, next(waiting), size)
                report.partials[index] = span, opened
                self._borrowed.setdefault(report.job, []).append((worker, number))
        for blob in handle.asked:
            handle.holds.discard(blob)
            self._blobs[blob].kept_by_client |= blob not in report.released
            self._reuse(blob)
        return report

    def _reuse(self, blob: int) -> None:
        held = self._blobs[blob]
        if not held.retired or any(blob in handle.holds for handle in self._handles):
            return
        del self._blobs[blob]
        if held.segment is None:
            return
        if held.kept_by_client:
            self._pool.give_up(held.segment)
        else:
            self._pool.give_back(held.segment)
        for handle in self._handles:
            handle.closed += self._pool.closed
        self._pool.closed.clear()

    def _replace(self, worker: int) -> Lost:
        """Put a new worker in the place of one that died."""
        old = self._handles[worker]
        position, _ = PROGRESS.unpack_from(old.progress)
        self._selector.unregister(old.channel)
        old.channel.close()
        template = old.template
        code = template.reap(old.pid)
        old.busy = False  # its pid may be another's from now on
        kind, reason = exit_text(code) if code is not None else _ORPHANED
        if not self._plans[worker].fork or template.ended:
            template.close()
            template.launch()
        self._handles[worker] = self._new_handle(template)
        for work in self._borrowed.values():
            work[:] = [(owner, number) for owner, number in work if owner != worker]
        for blob in list(self._blobs):
            self._reuse(blob)
        self._watch(worker)
        return Lost(worker, (position,) if position >= 0 else (), kind, reason)
