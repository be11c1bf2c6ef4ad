"""Clients in the engine's own process, one after the other: for debugging and small models."""

from __future__ import annotations

from umbel.base import limited_threads, preserved_globals
from umbel.clientapp import ClientApp
from umbel.simulation.executor import Done, Executor, Lost, join
from umbel.simulation.tasks import AppSpec, Batch, Buffers
from umbel.simulation.worker import Worker, checked_app, load_app


class InProcessExecutor(Executor):
    """One worker, which runs while the engine waits for it."""

    workers = 1
    can_kill = False

    def __init__(self, spec: AppSpec, app: ClientApp | None) -> None:
        self._spec = spec
        self._app = app
        self._blobs: dict[int, bytes] = {}
        self._batch: Batch | None = None
        self._worker: Worker | None = None

    def start(self) -> None:
        # An app that is an object is used as it is, so that a debugger sees the user's own.
        app = load_app(self._spec) if self._app is None else checked_app(self._app, self._spec)
        self._worker = Worker(app, self._spec, open_blob=lambda shipped: shipped)

    def publish(self, blob: int, buffers: Buffers) -> None:
        # A copy, so that what clients see is what was sent, whatever the app changes meanwhile.
        self._blobs[blob] = join(buffers)

    def retire(self, blob: int) -> None:
        self._blobs.pop(blob, None)

    def submit(self, worker: int, batch: Batch) -> None:
        batch.blobs = {blob: self._blobs[blob] for blob in batch.blobs}
        self._batch = batch

    def wait(self, timeout_s: float | None) -> list[Done | Lost]:
        batch, self._batch = self._batch, None
        if batch is None or self._worker is None:
            return []
        self._worker.forget(batch.forget_blobs, batch.forget_contents)
        with preserved_globals(), limited_threads(self._spec.threads):
            return [Done(0, self._worker.run(batch))]

    def kill(self, worker: int) -> None:
        raise NotImplementedError("a client in the engine's own process cannot be ended")

    def close(self) -> None:
        self._blobs.clear()
        self._worker = self._batch = None
