"""Clients in Ray actors: on this machine, or on all machines of a cluster."""

from __future__ import annotations

import contextlib
import mmap
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from umbel.base import SYSTEM_CLOCK, THREADS_ENVIRONMENT, AppLoadError, NodeLost
from umbel.records import encode
from umbel.simulation.carrying import carried
from umbel.simulation.executor import Done, Executor, Lost, Running
from umbel.simulation.merger import Merger
from umbel.simulation.raycluster import connect, import_ray, plan_actors, python_path
from umbel.simulation.rayworker import UNSEEN, RayWorker, as_array, merge_sums
from umbel.simulation.resources import Resources
from umbel.simulation.tasks import AppSpec, Batch, Buffers, Bytes
from umbel.simulation.template import PROGRESS
from umbel.updates import Aggregator

MERGED_HERE_MAX_WORKERS = 4
"""The engine itself merges the sums of this many actors; with more, Ray tasks do."""

_LOAD_S = 600.0
_WAIT_S = 0.2
_EXIT_DETAIL = re.compile(r"exit detail: (.*?)\s*(?:Some common causes|$)", re.DOTALL)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class StoredSum(NamedTuple):
    """A partial sum in the object store: a reference to a list, and its place there."""

    ref: Any
    place: int


@dataclass
class Handle:
    """The engine's side of one actor.

    Attributes
    ----------
    actor : ray.actor.ActorHandle
        The actor.
    loaded, report, sums : ray.ObjectRef or None
        What its methods return: why the app cannot be loaded, and the two parts of a report.
    progress : mmap
        What runs there, if it is on this machine.
    positions : tuple of int
        The clients of its batch.
    since_s : float or None
        When it was first seen to work on them.
    killed : bool
        Whether it was ended from here.
    """

    actor: Any
    loaded: Any
    progress: mmap.mmap
    report: Any = None
    sums: Any = None
    positions: tuple[int, ...] = ()
    since_s: float | None = None
    killed: bool = False


class RayExecutor(Executor):
    """Workers that are Ray actors.

    A Ray that the script has initialised is used as it is; otherwise one is started, or the
    cluster that ``init_args`` names is joined, and left again at the end.

    Parameters
    ----------
    spec : AppSpec
        The app and the run.
    resources : Resources
        What a client needs, and the arguments of ``ray.init``.
    num_nodes : int
        How many virtual nodes there are; more actors than that would idle.

    Raises
    ------
    MissingDependency
        Ray is not installed.
    ConfigError
        The cluster cannot hold a client.
    """

    def __init__(self, spec: AppSpec, resources: Resources, num_nodes: int) -> None:
        self._ray = import_ray()
        self._spec = spec
        self._handles: list[Handle] = []
        self._blobs: dict[int, Any] = {}
        self._spawned = 0
        self._folder = Path(tempfile.mkdtemp(prefix="umbel-ray-"))
        self._owns_ray = not self._ray.is_initialized()
        try:
            if self._owns_ray:
                connect(self._ray, resources)
            self.workers, self._cpus = plan_actors(self._ray.nodes(), resources, num_nodes)
        except BaseException:
            self.close()
            raise
        self._gpus = resources.num_gpus
        self._in_tree = self.workers > MERGED_HERE_MAX_WORKERS

    def launch(self) -> None:
        remote = self._ray.remote
        threads = str(self._spec.threads)
        runtime_env = {"env_vars": {**dict.fromkeys(THREADS_ENVIRONMENT, threads), **python_path()}}
        self._actor_type = remote(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            max_restarts=0,  # the engine must know that a worker is a new one
            scheduling_strategy="SPREAD",
            runtime_env=runtime_env,
        )(RayWorker)
        # The actors have claimed the CPUs, and wait while sums are merged.
        self._merge_sums = remote(num_cpus=0, runtime_env=runtime_env)(merge_sums)
        self._path = [entry or str(Path.cwd()) for entry in sys.path]
        self._node_id = self._ray.get_runtime_context().get_node_id()
        self._shared_spec = self._ray.put(self._spec)
        for _ in range(self.workers):
            self._handles.append(self._spawn())

    def start(self) -> None:
        deadline = SYSTEM_CLOCK.monotonic() + _LOAD_S
        by_ref = {handle.loaded: handle for handle in self._handles}
        waiting = list(by_ref)
        while waiting:
            left = max(0.0, deadline - SYSTEM_CLOCK.monotonic())
            ready, waiting = self._ray.wait(waiting, timeout=left)
            if not ready:
                raise NodeLost(
                    f"{len(waiting)} of {self.workers} Ray actors are not up after {_LOAD_S:g} s",
                    hint="`ray status` shows who claims the cluster's CPUs and GPUs; ask for fewer "
                    "with backend_config['workers']",
                )
            for ref in ready:
                self._check_loaded(by_ref[ref])

    def publish(self, blob: int, buffers: Buffers) -> None:
        self._blobs[blob] = self._ray.put(as_array(buffers))

    def retire(self, blob: int) -> None:
        del self._blobs[blob]

    def submit(self, worker: int, batch: Batch) -> None:
        handle = self._handles[worker]
        handle.positions = tuple(task.position for task in batch.tasks)
        handle.since_s = None
        bodies = [self._blobs[blob] for blob in batch.blobs]
        run = handle.actor.run.options(num_returns=2)
        handle.report, handle.sums = run.remote(batch, *bodies)

    def wait(self, timeout_s: float | None) -> list[Done | Lost]:
        busy = {
            handle.report: worker
            for worker, handle in enumerate(self._handles)
            if handle.report is not None
        }
        # Inside its own wait Ray looks for Ctrl-C once a second, which is late.
        self._ray.wait(
            list(busy), timeout=_WAIT_S if timeout_s is None else min(timeout_s, _WAIT_S)
        )
        ready, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0)
        return [event for ref in ready for event in self._receive(busy[ref])]

    def running(self, worker: int) -> Running | None:
        handle = self._handles[worker]
        position, since_s = PROGRESS.unpack_from(handle.progress)
        if position != UNSEEN:
            return Running(position, since_s) if position >= 0 else None
        if handle.since_s is None and self._is_up(handle):
            handle.since_s = SYSTEM_CLOCK.monotonic()
        if handle.since_s is None or not handle.positions:
            return None
        return Running(handle.positions[0], handle.since_s)

    def kill(self, worker: int) -> None:
        self._handles[worker].killed = True
        self._ray.kill(self._handles[worker].actor)

    def close(self) -> None:
        if self._ray.is_initialized():
            for handle in self._handles:
                self._ray.kill(handle.actor)
        self._handles.clear()
        self._blobs.clear()
        if self._owns_ray:
            self._ray.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def read(self, payload: Any) -> Bytes:
        if isinstance(payload, StoredSum):
            with _explained(self._ray):
                payload = self._ray.get(payload.ref)[payload.place]
        return payload if isinstance(payload, bytes) else memoryview(payload)

    def merger(self, aggregator: Aggregator[Any]) -> Merger:
        if not self._in_tree:
            return super().merger(aggregator)
        packed = self._ray.put((self._path, carried(aggregator)))
        return TreeMerger(
            aggregator,
            self.read,
            lambda left, right: self._merge_sums.remote(packed, *left, *right),
            self._ray.put,
        )

    def _spawn(self) -> Handle:
        file = self._folder / str(self._spawned)
        file.write_bytes(PROGRESS.pack(UNSEEN, 0.0))
        self._spawned += 1
        with file.open("r+b") as opened:
            progress = mmap.mmap(opened.fileno(), PROGRESS.size)
        actor = self._actor_type.remote()
        loaded = actor.load.remote(self._shared_spec, self._path, str(file), self._node_id)
        return Handle(actor, loaded, progress)

    def _is_up(self, handle: Handle) -> bool:
        return bool(self._ray.wait([handle.loaded], timeout=0)[0])

    def _check_loaded(self, handle: Handle) -> None:
        errors = self._ray.exceptions
        try:
            failed = self._ray.get(handle.loaded)
        except errors.RayActorError as error:
            raise AppLoadError(
                f"the Ray actor that imports the client app died: {_detail(error)}",
                hint="see what it printed above",
                app=self._spec.reference,
            ) from error
        if failed is not None:
            why, trace = failed
            why.add_note(f"In the Ray actor that loads the client app:\n{trace}")
            raise why

    def _receive(self, worker: int) -> Iterator[Done | Lost]:
        handle = self._handles[worker]
        errors = self._ray.exceptions
        try:
            report = self._ray.get(handle.report)
            # In a tree they stay where they are; else they come now, while they can be made again.
            sums = None if self._in_tree else self._ray.get(handle.sums)
        except errors.RayTaskError as error:
            self._check_loaded(handle)
            raise _with_note(error) from None
        except errors.RayError as error:
            yield self._replace(worker, error)
            return
        for i, (span, body) in enumerate(report.partials):
            if isinstance(body, int):
                large = StoredSum(handle.sums, body) if sums is None else sums[body]
                report.partials[i] = span, large
        handle.report = handle.sums = None
        handle.positions = ()
        yield Done(worker, report)
        if handle.killed:  # its last words came before it was ended
            yield self._replace(worker, None)

    def _replace(self, worker: int, error: Exception | None) -> Lost:
        """Put a new actor in the place of one that died."""
        handle = self._handles[worker]
        position, _ = PROGRESS.unpack_from(handle.progress)
        suspects: tuple[int, ...] = (position,) if position >= 0 else ()
        if position == UNSEEN and self._is_up(handle):
            suspects = handle.positions
        self._ray.kill(handle.actor)  # Ray may have lost touch with it, or only with its report
        self._handles[worker] = self._spawn()
        kind = type(error).__name__.removesuffix("Error") if error else "ActorDied"
        return Lost(worker, suspects, kind, f"its Ray actor died: {_detail(error)}")


class TreeMerger(Merger):
    """Merges large partial sums where they lie; only the last one comes to the engine.

    Parameters
    ----------
    aggregator, read
        See :class:`Merger`.
    merge_stored : callable
        Merges two stored sums in the cluster and returns a reference to a list of one.
    put : callable
        Puts a value into the object store and returns a reference to it.
    """

    def __init__(
        self,
        aggregator: Aggregator[Any],
        read: Callable[[Any], Bytes],
        merge_stored: Callable[[StoredSum, StoredSum], Any],
        put: Callable[[Any], Any],
    ) -> None:
        super().__init__(aggregator, read)
        self._merge_stored = merge_stored
        self._put = put

    def take(self, payload: Any) -> Any:
        return payload if isinstance(payload, StoredSum) else super().take(payload)

    def merge(self, left: Any, right: Any) -> Any:
        if not isinstance(left, StoredSum) and not isinstance(right, StoredSum):
            return super().merge(left, right)
        return StoredSum(self._merge_stored(self._stored(left), self._stored(right)), 0)

    def total(self, acc: Any) -> Any:
        return super().take(acc) if isinstance(acc, StoredSum) else acc

    def _stored(self, acc: Any) -> StoredSum:
        if isinstance(acc, StoredSum):
            return acc
        return StoredSum(self._put([as_array(encode(self.aggregator.pack(acc)))]), 0)


def _detail(error: Exception | None) -> str:
    """Return what Ray knows of a death, less its list of common causes."""
    found = _EXIT_DETAIL.search(str(error))
    return found[1] if found else (str(error) if error else "it was ended")


def _with_note(error: Any) -> Exception:
    """Return what was raised in the cluster, with the traceback that Ray has of it."""
    cause: Exception = error.cause
    cause.add_note(f"In a Ray worker:\n{_COLOUR.sub('', str(error))}")
    return cause


@contextlib.contextmanager
def _explained(ray: Any) -> Iterator[None]:
    """Raise what merging raised; if instead a sum is gone, say what that means."""
    errors = ray.exceptions
    try:
        yield
    except errors.RayError as error:
        merging = isinstance(error, errors.RayTaskError)
        if merging and not isinstance(error.cause, errors.RayError):
            raise _with_note(error) from None
        raise NodeLost(
            "a partial sum was lost with the machine that held it",
            hint="run again; with at most "
            f"{MERGED_HERE_MAX_WORKERS} workers the engine takes sums out of danger at once",
        ) from error
