"""Where workers live: the one thing in which the simulation's backends differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from umbel.simulation.merger import Merger
from umbel.simulation.tasks import Batch, Buffers, Bytes, Report
from umbel.updates import Aggregator


@dataclass(frozen=True)
class Done:
    """A worker has finished its batch."""

    worker: int
    report: Report


@dataclass(frozen=True)
class Lost:
    """A worker has died and was replaced by an empty one.

    Attributes
    ----------
    worker : int
        Which.
    suspects : tuple of int
        The positions of the clients that may have ended it; empty if it ran none.
    kind : str
        The name of the signal, or ``"ExitCode"``.
    reason : str
        What is known of the cause.
    """

    worker: int
    suspects: tuple[int, ...]
    kind: str
    reason: str


@dataclass(frozen=True)
class Running:
    """What a worker is doing: whose client runs, and since when (seconds, monotonic)."""

    position: int
    since_s: float


class Executor(ABC):
    """A number of workers, each of which does one batch at a time.

    Attributes
    ----------
    workers : int
        How many there are.
    can_kill : bool
        Whether a client that takes too long can be ended.
    """

    workers: int
    can_kill: bool = True

    def launch(self) -> None:  # noqa: B027 - not every backend has something to do
        """Begin to bring the workers up, without waiting for them."""

    @abstractmethod
    def start(self) -> None:
        """Wait until the workers are up; batches may be submitted from then on.

        Raises
        ------
        AppLoadError
            The client app cannot be loaded.
        """

    @abstractmethod
    def publish(self, blob: int, buffers: Buffers) -> None:
        """Take a copy of a body that batches will name by ``blob``."""

    @abstractmethod
    def retire(self, blob: int) -> None:
        """Let go of a published body."""

    @abstractmethod
    def submit(self, worker: int, batch: Batch) -> None:
        """Give an idle worker a batch."""

    @abstractmethod
    def wait(self, timeout_s: float | None) -> list[Done | Lost]:
        """Return what has happened, after at most ``timeout_s`` seconds if that is nothing."""

    @abstractmethod
    def kill(self, worker: int) -> None:
        """End a worker; ``wait`` then says that it is lost."""

    @abstractmethod
    def close(self) -> None:
        """End all workers and free everything."""

    def finish(self, job: int) -> None:  # noqa: B027 - not every backend has something to do
        """Hear that the partial sums of a job have been read."""

    def running(self, worker: int) -> Running | None:
        """Return what a busy worker is doing, if that is known."""
        return None

    def read(self, payload: Any) -> Bytes:
        """Return the bytes of a payload out of a report."""
        return payload if isinstance(payload, bytes | memoryview) else join(payload)

    def merger(self, aggregator: Aggregator[Any]) -> Merger:
        """Return what merges the partial sums of a job."""
        return Merger(aggregator, self.read)


def join(buffers: Buffers) -> bytes:
    """Return buffers as one run of bytes."""
    return b"".join(buffers)
