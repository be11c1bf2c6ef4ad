"""The process that loads the app once and becomes, or forks, the workers.

It is started afresh, so it has one thread and nothing of the engine's memory: forking it is safe,
and the workers share the memory of whatever the app imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import signal
import socket
import struct
import sys
import traceback
from typing import Any, NoReturn

from umbel.base import SYSTEM_CLOCK, UmbelError, die_with_parent, set_threads
from umbel.clientapp import ClientApp
from umbel.simulation.channel import Channel, Closed
from umbel.simulation.segments import (
    INLINE_MAX_BYTES,
    Segment,
    SegmentPool,
    SegmentReader,
)
from umbel.simulation.tasks import AppSpec, Batch, Buffers, Bytes, ContentSpec, Report, Task
from umbel.simulation.worker import Worker, load_app

PROGRESS = struct.Struct("<qd")
"""What a worker is doing: a position (-1 for none), and since when (seconds, monotonic)."""

_FAREWELL_S = 0.3
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4


def main(fd: int) -> int:
    """Load the app that the first frame names; then do what the engine says."""
    channel = Channel(socket.socket(fileno=fd))
    try:
        (fields, path), _ = channel.receive()
    except Closed:
        return 1
    sys.path[:] = path
    spec = AppSpec(*fields)
    set_threads(1)  # a pool of threads would not survive the fork
    try:
        app = load_app(spec)
    except BaseException as error:
        hint = error.hint if isinstance(error, UmbelError) else None
        message = error.message if isinstance(error, UmbelError) else repr(error)
        places = error.context if isinstance(error, UmbelError) else {}
        where = {name: str(place) for name, place in places.items()}
        cause = error.__cause__ or error
        with contextlib.suppress(Closed):  # the server app failed first, and nobody listens
            channel.send(
                ("failed", message, hint, where, "".join(traceback.format_exception(cause)))
            )
        return 1
    gc.collect()
    gc.freeze()  # so that counting references does not copy the shared pages
    return _serve_engine(channel, app, spec)


def _serve_engine(channel: Channel, app: ClientApp, spec: AppSpec) -> int:
    children: set[int] = set()
    try:
        channel.send(("ready",))
        while True:
            (order, *arguments), fds = channel.receive()
            if order == "become":
                channel.close()
                _work(app, spec, *fds)
            elif order == "fork":
                _flush()
                pid = os.fork()
                if pid == 0:
                    channel.close()
                    die_with_parent()
                    _work(app, spec, *fds)
                children.add(pid)
                for received in fds:
                    os.close(received)
                channel.send(pid)
            elif order == "reap":
                (pid,) = arguments
                channel.send(_reap(pid) if pid in children else None)
                children.discard(pid)
    except Closed:
        # The engine is gone, however it went: nobody needs the workers, nor what they started.
        _see_off(children)
        os.killpg(os.getpgrp(), signal.SIGKILL)
        return 0


def _reap(pid: int) -> int:
    """End a worker, if it has not ended, and return its exit code."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _see_off(children: set[int]) -> None:
    """Let workers that noticed end by themselves, and end the others."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    deadline = SYSTEM_CLOCK.monotonic() + _FAREWELL_S
    while children:
        for pid in [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]]:
            children.discard(pid)
        left = deadline - SYSTEM_CLOCK.monotonic()
        if left <= 0:
            break
        if children:
            signal.sigtimedwait({signal.SIGCHLD}, left)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _keep_memory() -> None:
    """Let the C library keep freed memory: fresh pages cost more than the sums done in them."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def _work(app: ClientApp, spec: AppSpec, socket_fd: int, progress_fd: int) -> NoReturn:
    """Be a worker until the engine hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the engine, which ends us
    set_threads(spec.threads)
    _keep_memory()
    channel = Channel(socket.socket(fileno=socket_fd))
    # What a client forks must not keep the channel open: the engine would not see this one die.
    os.register_at_fork(after_in_child=channel.close)
    status = 1
    try:
        WorkerProcess(channel, app, spec, progress_fd).serve()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def _flush() -> None:
    """Let what clients printed be seen, unless they closed the stream or its reader is gone."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()


class WorkerProcess:
    """A worker at the end of a channel."""

    def __init__(self, channel: Channel, app: ClientApp, spec: AppSpec, progress_fd: int) -> None:
        self._channel = channel
        self._progress = mmap.mmap(progress_fd, mmap.PAGESIZE)
        self._reader = SegmentReader()
        self._numbers: dict[int, int] = {}
        self._pool = SegmentPool()
        self._lent: dict[int, Segment] = {}
        self._given: list[Segment] = []
        self._worker = Worker(app, spec, self._open_blob, self._on_task)

    def serve(self) -> None:
        """Run batches until the engine hangs up."""
        while True:
            try:
                value, fds = self._channel.receive()
                answer = self._run(value, fds)
                # What clients print is seen now, and not lost if the worker is killed.
                _flush()
                self._channel.send(*answer)
            except Closed:
                return
            while self._given:
                self._given.pop().close()

    def _run(self, value: Any, fds: list[int]) -> tuple[Any, list[int]]:
        *fields, spent, closed = value
        batch = Batch(*fields)
        batch.tasks = [Task(*task) for task in batch.tasks]
        batch.contents = {key: ContentSpec(*spec) for key, spec in batch.contents.items()}
        waiting = iter(fds)
        batch.blobs = {
            blob: sent if isinstance(sent, bytes) else (blob, next(waiting), *sent)
            for blob, sent in batch.blobs.items()
        }
        for number, usable in spent:
            segment = self._lent.pop(number)
            if usable:
                self._pool.give_back(segment)
            else:
                self._pool.give_up(segment)
        released = self._release(batch)
        self._reader.forget(closed)
        report = self._worker.run(batch)
        report.released = released
        return self._pack(report)

    def _release(self, batch: Batch) -> list[int]:
        self._worker.forget(batch.forget_blobs, batch.forget_contents)
        released = []
        for blob in batch.forget_blobs:
            # A client may hold a view of the model: then its memory must stay as it is.
            number = self._numbers.pop(blob, None)
            if number is None or self._reader.release(number):
                released.append(blob)
        return released

    def _pack(self, report: Report) -> tuple[Any, list[int]]:
        fds: list[int] = []
        replies = [(key, self._give(body, fds)) for key, body in report.replies]
        partials = [
            (span, None if body is None else self._lend(body, fds))
            for span, body in report.partials
        ]
        states = [(node, None if body is None else b"".join(body)) for node, body in report.states]
        value = (
            report.job,
            report.errors,
            replies,
            states,
            partials,
            report.committed,
            report.released,
            report.elapsed_s,
            report.fault,
        )
        closed, self._pool.closed = self._pool.closed, []
        return (value, closed), fds

    def _give(self, body: Buffers, fds: list[int]) -> bytes | int:
        """Return a small body as bytes, and of a large one, which the user may keep, the size."""
        if _is_small(body):
            return b"".join(body)
        segment = Segment()
        self._given.append(segment)
        fds.append(segment.fd)
        return segment.write(body)

    def _lend(self, body: Buffers, fds: list[int]) -> bytes | tuple[int, int]:
        """Return a small body as bytes, and of a large one, which comes back, number and size."""
        if _is_small(body):
            return b"".join(body)
        segment, size = self._pool.write(body)
        self._lent[segment.number] = segment
        fds.append(segment.fd)
        return segment.number, size

    def _open_blob(self, shipped: bytes | tuple[int, int, int, int]) -> Bytes:
        if isinstance(shipped, bytes):
            return shipped
        blob, fd, number, size = shipped
        self._numbers[blob] = number
        return self._reader.open(number, fd, size)

    def _on_task(self, position: int) -> None:
        PROGRESS.pack_into(self._progress, 0, position, SYSTEM_CLOCK.monotonic())


def _is_small(body: Buffers) -> bool:
    return sum(len(buffer) for buffer in body) <= INLINE_MAX_BYTES
