"""A run: its identity, its seed, its log, and who watches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from umbel.base import SYSTEM_CLOCK, ConfigError, Seeds, derive_key, new_run_id, sync
from umbel.records import Error, MetricRecord
from umbel.serverapp.checkpoint import Checkpoint, Checkpoints
from umbel.serverapp.past import Past, size_on_disk
from umbel.serverapp.result import Failure, Result
from umbel.serverapp.runlog import RunLog, naming, strict_json
from umbel.serverapp.runsecret import Secrets


@dataclass(frozen=True)
class RunEvent:
    """Something that happened in a run, as observers get it.

    Attributes
    ----------
    name : str
        For example ``"round_finished"`` or ``"progress"``; ``docs/run-folder.md`` lists them.
    data : dict
        The facts.
    """

    name: str
    data: dict[str, Any]


Observer = Callable[[RunEvent], None]


@dataclass
class Run:
    """One execution of a server app.

    Attributes
    ----------
    run_id : str
        Its name.
    seeds : Seeds
        The root of all its random streams.
    run_config : dict
        The app's settings.
    folder : Path or None
        Where the log and the metrics go; without it the log lives in memory.
    observers : sequence of callables
        Called with every :class:`RunEvent`.
    resumable : bool
        Whether ``strategy.start`` saves a checkpoint after every round, in the folder.
    resume : bool
        Whether to go on with the run that the folder holds, in the same log, from its last
        checkpoint (from its beginning, where there is none). Its id, seed and settings are those of
        the log then, and it is resumable. False again where the log is empty: nothing had begun.
    simulated : bool
        Whether all of it happens on one machine, with made-up nodes. Only then do secrets follow
        from the seed, so that the run can be repeated, noise included.
    start : int
        Which call of ``strategy.start`` is in progress or was the last, from 1.
    server_round, attempt, phase : int, int, str
        Where the run is: the round, how often this phase was repeated, and the kind of message.
    cohort : tuple of int
        The nodes that the phase in progress sends to, in order.
    failures : list of Failure
        Every client that gave no usable reply; the grid adds to it as they become known.
    result : Result or None
        What the last strategy that was started has come to.
    log : RunLog
        What happened.
    checkpoints : Checkpoints or None
        Where ``strategy.start`` goes on from, and what it saves.

    Raises
    ------
    ConfigError
        The folder holds a run already, or cannot be written. With ``resume``: it holds no run, or
        one that has finished, or one that another process is at work on.
    ProtocolError
        With ``resume``: the log was changed after it was written.

    Examples
    --------
    >>> run = Run(seeds=Seeds(7), observers=[lambda event: print(event.name, event.data)])
    >>> run.emit("greeting", words=2)
    greeting {'words': 2}
    """

    run_id: str = field(default_factory=lambda: new_run_id(SYSTEM_CLOCK.now()))
    seeds: Seeds = field(default_factory=Seeds)
    run_config: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    observers: Sequence[Observer] = ()
    resumable: bool = False
    resume: bool = False
    simulated: bool = False
    start: int = 0
    server_round: int = 0
    attempt: int = 0
    phase: str = ""
    cohort: tuple[int, ...] = ()
    failures: list[Failure] = field(default_factory=list)
    result: Result | None = None
    log: RunLog = field(default_factory=RunLog, init=False, repr=False)
    checkpoints: Checkpoints | None = field(default=None, init=False, repr=False)
    _secrets: Secrets = field(init=False, repr=False)
    _failed_before: int = field(default=0, init=False, repr=False)
    _phase_type: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        past: Past | None = None
        self._secrets = Secrets(None if self.folder is None else self.folder / "secret.key")
        try:
            if self.resumable or self.resume:
                # First of all the lock: a log that another process writes to is left alone.
                with self._written():
                    self.checkpoints = Checkpoints(Past.place(self.folder, self.resume))
            if self.resume:
                past = Past.of(self.folder)
            self._open_log(past)
            if self.checkpoints is not None and self.folder is not None:
                sync(self.folder)
                sync(self.folder.parent)
            self.resumable = self.checkpoints is not None
            self.resume = past is not None and past.entries > 0
            if past is not None and self.resume:
                self._go_on(past)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError as error:
            raise ConfigError(
                "the folder holds a run already",
                hint="choose another one, or resume it",
                run_dir=self.folder,
            ) from error
        except OSError as error:
            raise ConfigError(
                f"the folder of the run cannot be written: {error.strerror}",
                hint="name another one with --runs-dir, or run_dir in Python",
                run_dir=self.folder,
            ) from error

    def _open_log(self, past: Past | None) -> None:
        path = self.folder / "log.jsonl" if self.folder else None
        with self._written():
            self.log = RunLog(path, new=past is None)

    def _go_on(self, past: Past) -> None:
        """Stand where the past has come to."""
        self.run_id, self.seeds = past.run_id, Seeds(past.seed)
        self.run_config = past.run_config
        if self.checkpoints is not None and self.folder is not None:
            self.checkpoints.adopt(past.saved)
            past.truncate_metrics(self.folder / "metrics.jsonl")
        last = past.saved[-1] if past.saved else None
        self.emit(
            "run_resumed",
            start=last.start if last else 0,
            from_round=last.server_round if last else 0,
        )

    def secret(self, name: str) -> bytes:
        """Return 32 secret bytes of this name, the same for the whole of the run.

        They are random, and lie in the folder's ``secret.key`` so that a run that is resumed has
        the same; without a folder they are in memory alone. In a simulation they follow from the
        seed, and are a secret to nobody who knows it.

        Examples
        --------
        >>> Run().secret("noise") == Run().secret("noise")
        False
        >>> runs = [Run(seeds=Seeds(7), simulated=True) for _ in range(2)]
        >>> runs[0].secret("noise") == runs[1].secret("noise")
        True
        """
        if self.simulated:
            return self.seeds.child("secret", name).integer(256).to_bytes(32, "little")
        return derive_key(self._secrets.root(), name)

    def forget_secrets(self) -> None:
        """Remove the secrets, from the disk as well: the run is over, and asks for none again."""
        self._secrets.forget()

    def close(self) -> None:
        """Close the log, and let others work on the run."""
        self.log.close()
        if self.checkpoints is not None:
            self.checkpoints.close()

    def save(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint, if the run is resumable.

        It is on the disk, and named by the log, when this returns.
        """
        if self.checkpoints is None or self.folder is None:
            return
        saved = self.checkpoints.save(checkpoint)
        self.emit(
            "checkpoint_saved",
            start=saved.start,
            round=saved.server_round,
            sha256=saved.sha256,
            size_bytes=saved.size_bytes,
            arrays_sha256=saved.arrays_sha256,
            metrics_size_bytes=size_on_disk(self.folder / "metrics.jsonl"),
        )
        self.log.sync()
        self.checkpoints.settle(saved)

    def sync(self) -> None:
        """Return when all that a resumable run has written is on the disk."""
        if self.checkpoints is not None and self.folder is not None:
            for name in ("model.safetensors", "metrics.jsonl"):
                if (self.folder / name).exists():
                    sync(self.folder / name)
            sync(self.folder)
            self.log.sync()

    def emit(self, event: str, /, **data: Any) -> None:
        """Append an event to the log and tell the observers."""
        self.log.append(event, **data)
        self.notify(event, **data)

    def notify(self, event: str, /, **data: Any) -> None:
        """Tell the observers about something too fleeting for the log."""
        for observer in self.observers:
            observer(RunEvent(event, data))

    def begin_phase(
        self, phase: str, nodes: Sequence[int], message_type: str | None = None
    ) -> None:
        """Say that messages of one type, by default the phase's name, are about to go to nodes."""
        self.phase, self.cohort = phase, tuple(int(node) for node in nodes)
        self._phase_type = message_type or phase
        self._failed_before = len(self.failures)
        self.emit(
            "phase_started",
            round=self.server_round,
            phase=phase,
            cohort=len(self.cohort),
            nodes=list(self.cohort),
        )

    @property
    def phase_failures(self) -> list[Failure]:
        """The failures since the phase in progress began."""
        return self.failures[self._failed_before :]

    def sort_phase_failures(self) -> None:
        """Put the phase's failures in the order of nodes; they came as the workers finished."""
        ordered = sorted(self.phase_failures, key=lambda failure: failure.node_id)
        self.failures[self._failed_before :] = ordered
        if self.result is not None and ordered:
            self.result.failures[-len(ordered) :] = ordered

    def progress(self, done: int, total: int, failed: int) -> None:
        """Say how many of a cohort's replies are there."""
        self.notify(
            "progress",
            round=self.server_round,
            phase=self.phase,
            done=done,
            total=total,
            failed=failed,
        )

    def fail(self, node_id: int, error: Error, message_type: str | None = None) -> None:
        """Record that a node gave no usable reply, here and in the result of the strategy.

        It belongs to the phase in progress, unless the message was of another type.
        """
        failure = Failure(
            self.server_round,
            self.phase if message_type in (None, self._phase_type) else message_type,
            int(node_id),
            error.kind or "Error",
            error.reason or "",
            error.traceback,
        )
        self.failures.append(failure)
        if self.result is not None:
            self.result.failures.append(failure)
        self.emit(
            "failure",
            round=failure.server_round,
            phase=failure.phase,
            node_id=failure.node_id,
            kind=failure.kind,
            message=failure.message,
            traceback=failure.traceback,
        )

    def record_metrics(self, phase: str, metrics: MetricRecord) -> None:
        """Append a line to ``metrics.jsonl``."""
        if self.folder is None:
            return
        line = {"round": self.server_round, "phase": phase, "metrics": dict(metrics)}
        path = self.folder / "metrics.jsonl"
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(strict_json(line) + "\n")
