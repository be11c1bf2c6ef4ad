"""The worker: holds the app, runs clients one after the other, folds their replies.

The same class runs in the engine's own process, in a forked one, and inside a Ray actor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle

from umbel.base import (
    SYSTEM_CLOCK,
    AppLoadError,
    Seeds,
    load_object,
    set_up,
)
from umbel.clientapp import ClientApp, error_fields, serve
from umbel.records import (
    ArrayRecord,
    Context,
    RecordDict,
    UserConfig,
    decode,
    encode,
)
from umbel.simulation.tasks import (
    AppSpec,
    Batch,
    Bytes,
    ContentSpec,
    Report,
    Task,
    pack_fault,
)
from umbel.updates import Aggregator, PartialSums, add_member

COMMIT_S = 1.0
"""A worker hands over its partial sums at least this often, so that its death costs little."""

OnTask = Callable[[int], None]


def load_app(spec: AppSpec) -> ClientApp:
    """Import or unpickle the client app.

    Raises
    ------
    AppLoadError
        It cannot be found, or is no ``ClientApp``.
    """
    set_up(spec.setup)
    if spec.pickled is not None:
        app = cloudpickle.loads(spec.pickled)
    else:
        app = load_object(str(spec.reference), Path(spec.app_dir) if spec.app_dir else None)
    return checked_app(app, spec)


def checked_app(app: object, spec: AppSpec) -> ClientApp:
    """Return ``app`` if it is a client app."""
    if not isinstance(app, ClientApp):
        raise AppLoadError(
            f"the client app is a {type(app).__name__}, not a ClientApp",
            hint="name the ClientApp object itself",
            app=spec.reference,
        )
    return app


class Worker:
    """Runs batches.

    Parameters
    ----------
    app : ClientApp
        The app.
    spec : AppSpec
        The run.
    open_blob : callable
        Turns what the executor ships for an array body into its bytes.
    on_task : callable
        Called with a position before its client runs and with -1 after the batch.
    """

    def __init__(
        self,
        app: ClientApp,
        spec: AppSpec,
        open_blob: Callable[[Any], Bytes],
        on_task: OnTask = lambda position: None,
    ) -> None:
        self._app = app
        self._spec = spec
        self._open_blob = open_blob
        self._on_task = on_task
        self._seeds = Seeds(spec.seed)
        self._blobs: dict[int, ArrayRecord] = {}
        self._contents: dict[int, RecordDict] = {}
        self._job = -1
        self._sums: PartialSums[Any] | None = None
        self._aggregator: Aggregator[Any] | None = None
        self._states: list[tuple[int, Any]] = []
        self._uncommitted: list[Task] = []
        self._failed: set[int] = set()
        self._last_commit = 0.0

    def run(self, batch: Batch) -> Report:
        """Run the clients of a batch; what ends it early is told in the report."""
        report = Report(batch.job)
        try:
            self._run(batch, report)
        except Exception as error:
            # No client's doing, but the aggregator's or our own: it ends the call, not the worker.
            self._on_task(-1)
            report.fault = pack_fault(error)
        return report

    def _run(self, batch: Batch, report: Report) -> None:
        begin = SYSTEM_CLOCK.monotonic()
        self._prepare(batch, begin)
        self._run_tasks(batch.tasks, report)
        now = SYSTEM_CLOCK.monotonic()
        report.elapsed_s = now - begin
        report.committed = self._sums is None or batch.commit or now - self._last_commit > COMMIT_S
        if report.committed:
            self._commit(report)
            self._last_commit = now

    def forget(self, blobs: list[int], contents: list[int]) -> None:
        """Let go of bodies that will not be needed again."""
        for content in contents:
            self._contents.pop(content, None)
        for blob in blobs:
            self._blobs.pop(blob, None)

    def _prepare(self, batch: Batch, now: float) -> None:
        for blob, shipped in batch.blobs.items():
            self._blobs[blob] = decode(self._open_blob(shipped)).array_records["arrays"]
        for content, spec in batch.contents.items():
            self._contents[content] = self._assemble(spec)
        if batch.job != self._job:
            self._job, self._states, self._last_commit = batch.job, [], now
            self._uncommitted, self._failed = [], set()
            self._aggregator, self._sums = None, None
            if batch.aggregator is not None:
                aggregator: Aggregator[Any] = cloudpickle.loads(batch.aggregator)
                aggregator.looks_at_values = False
                self._aggregator = aggregator
                self._sums = PartialSums(batch.cohort, aggregator.merge)

    def _assemble(self, spec: ContentSpec) -> RecordDict:
        small = decode(spec.small)
        arrays = {name: self._blobs[blob] for name, blob in spec.arrays}
        return RecordDict(
            {name: arrays[name] if name in arrays else small[name] for name in spec.order}
        )

    def _run_tasks(self, tasks: list[Task], report: Report) -> None:
        for task in tasks:
            self._on_task(task.position)
            content = self._run_task(task, report)
            if self._sums is not None:
                self._fold(task, content, report)
        self._on_task(-1)
        if self._sums is not None:
            self._uncommitted += tasks
            self._failed.update(position for position, _ in report.errors)

    def _run_task(self, task: Task, report: Report) -> RecordDict | None:
        """Run one client; return what it replied, or ``None`` and an error in the report."""
        answer = serve(
            self._app,
            self._contents[task.content].copy(),
            task,
            self._context(task),
            self._seeds,
            with_body=self._aggregator is None,
        )
        if answer.error is not None:
            report.errors.append((task.position, answer.error))
            return None
        if answer.body is not None:
            report.replies.append((task.position, answer.body))
        if answer.state is not None or task.state is not None:
            self._states.append((task.node_id, answer.state))
        return answer.content

    def _fold(self, task: Task, content: RecordDict | None, report: Report) -> None:
        """Add a reply to the sum of those before it."""
        sums, aggregator = self._sums, self._aggregator
        if sums is None or aggregator is None:
            return
        aggregator.answering(self._contents[task.content])
        rejection = add_member(sums, aggregator, task.position, content)
        if rejection is not None:
            report.errors.append((task.position, error_fields(rejection, with_traceback=False)))

    def _context(self, task: Task) -> Context:
        config: UserConfig = {
            "partition-id": task.node_id,
            "num-partitions": self._spec.num_nodes,
        }
        state = RecordDict() if task.state is None else decode(task.state)
        return Context(
            run_id=self._spec.run_id,
            node_id=task.node_id,
            node_config=config,
            state=state,
            run_config=dict(self._spec.run_config),
            simulated=True,
        )

    def _commit(self, report: Report) -> None:
        """Put what was kept back into the report: partial sums, and the states that go along."""
        aggregator, sums = self._aggregator, self._sums
        if aggregator is not None and sums is not None:
            partials = list(sums.drain())
            if not all(acc is None or aggregator.is_sound(acc) for _, acc in partials):
                self._run_again(aggregator, report)
                partials = list(sums.drain())
            for span, acc in partials:
                packed = None if acc is None else encode(aggregator.pack(acc))
                report.partials.append((span, packed))
            self._uncommitted = []
        report.states, self._states = self._states, []

    def _run_again(self, aggregator: Aggregator[Any], report: Report) -> None:
        """Repeat what is not committed, and look at the values of every reply this time.

        A value that spoils the mean is rare, and looking for it in every reply costs as much as
        adding it. The clients' random streams begin anew, so their replies are the same.
        """
        aggregator.looks_at_values = True
        known, self._states, tasks = self._failed.copy(), [], self._uncommitted
        self._uncommitted = []
        again = Report(report.job)
        self._run_tasks(tasks, again)
        report.errors += [error for error in again.errors if error[0] not in known]
