"""What runs inside a Ray cluster: the worker as an actor, and the merging of partial sums."""

from __future__ import annotations

import mmap
import sys
import traceback
from typing import Any

import cloudpickle
import numpy as np

from umbel.base import SYSTEM_CLOCK, AppLoadError, set_threads
from umbel.records import decode, encode
from umbel.simulation.executor import join
from umbel.simulation.segments import INLINE_MAX_BYTES
from umbel.simulation.tasks import AppSpec, Batch, Buffers
from umbel.simulation.template import PROGRESS
from umbel.simulation.worker import Worker, load_app

Body = np.ndarray[Any, np.dtype[np.uint8]]
"""A message body as one array: Ray carries arrays beside the pickle, and maps them on arrival."""

Failed = tuple[AppLoadError, str]
"""Why an app cannot be loaded, and the traceback of what it raised."""

UNSEEN = -2
"""The position in a progress file that no worker has opened."""


class RayWorker:
    """A worker in a process of its own, somewhere in the cluster."""

    def load(
        self, spec: AppSpec, path: list[str], progress_file: str, node_id: str
    ) -> Failed | None:
        """Load the app; return why it cannot be, if that is so.

        Parameters
        ----------
        spec : AppSpec
            The app and the run.
        path : list of str
            The engine's ``sys.path``.
        progress_file, node_id : str
            Where to note what runs, and the Ray node whose processes can read it.
        """
        import ray

        take_path(path)
        self._progress: mmap.mmap | None = None
        if ray.get_runtime_context().get_node_id() == node_id:
            with open(progress_file, "r+b") as file:
                self._progress = mmap.mmap(file.fileno(), PROGRESS.size)
        self._on_task(-1)
        try:
            app = load_app(spec)
        except Exception as error:
            return _failed(error)
        set_threads(spec.threads)
        self._worker = Worker(app, spec, open_blob=memoryview, on_task=self._on_task)
        return None

    def run(self, batch: Batch, *bodies: Body) -> Any:
        """Return the report on a batch, and its large partial sums in a list of their own.

        In the report a number stands for each: its place in the list. The engine need not fetch
        the list to read the report.
        """
        batch.blobs = dict(zip(batch.blobs, bodies, strict=True))
        self._worker.forget(batch.forget_blobs, batch.forget_contents)
        report = self._worker.run(batch)
        report.replies = [(position, pack(body)) for position, body in report.replies]
        # States outlive the report: as arrays they would keep the whole of it in memory.
        report.states = [(node, body and join(body)) for node, body in report.states]
        large: list[Body] = []
        for place, (span, body) in enumerate(report.partials):
            packed: Any = None if body is None else pack(body)
            if isinstance(packed, np.ndarray):
                large.append(packed)
                packed = len(large) - 1
            report.partials[place] = span, packed
        return report, large

    def _on_task(self, position: int) -> None:
        if self._progress is not None:
            PROGRESS.pack_into(self._progress, 0, position, SYSTEM_CLOCK.monotonic())


def _failed(error: Exception) -> Failed:
    trace = "".join(traceback.format_exception(error.__cause__ or error))
    if isinstance(error, AppLoadError):
        return error, trace
    return AppLoadError(f"the client app cannot be loaded: {error!r}"), trace


def merge_sums(
    aggregator: tuple[list[str], bytes], left: list[Body], i: int, right: list[Body], j: int
) -> list[Body]:
    """Return the sum of two partial sums, each given by a list and its place there."""
    path, pickled = aggregator
    take_path(path)
    known = cloudpickle.loads(pickled)
    merged = known.merge(known.unpack(decode(left[i].data)), known.unpack(decode(right[j].data)))
    return [as_array(encode(known.pack(merged)))]


def take_path(path: list[str]) -> None:
    """Search for modules as the engine does, and then where this process did."""
    sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]


def as_array(buffers: Buffers) -> Body:
    """Return a body as one array."""
    return np.frombuffer(join(buffers), np.uint8)


def pack(buffers: Buffers) -> bytes | Body:
    """Return a small body as bytes, which travel within the reply; a large one as an array."""
    size = sum(len(buffer) for buffer in buffers)
    return join(buffers) if size <= INLINE_MAX_BYTES else as_array(buffers)
