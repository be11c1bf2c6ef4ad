"""Checkpoints: all that the next round depends on, in a file that is whole or not there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from umbel.base import ConfigError, ProtocolError, content_hash, mapped, sync, write_hashed
from umbel.privacy import PrivacyStatement
from umbel.records import ArrayRecord, ConfigRecord, MetricRecord, RecordDict, decode, encode
from umbel.serverapp.result import Failure, Result, RoundTiming
from umbel.serverapp.runlog import naming

_METRICS = {
    "train": "train_metrics_clientapp",
    "evaluate": "evaluate_metrics_clientapp",
    "server": "evaluate_metrics_serverapp",
}


@dataclass(frozen=True)
class StoredArrays:
    """A file that holds an array record named ``"arrays"``, and never changes.

    Attributes
    ----------
    path : Path
        The file, on the same file system as the checkpoints.
    sha256 : str
        Of its bytes.
    size_bytes : int
        How many.
    """

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Checkpoint:
    """Where one call of ``strategy.start`` stands after a round.

    Attributes
    ----------
    start : int
        Which call of the run it is, from 1.
    server_round : int
        The last round that is over; 0 before the first.
    finished : bool
        Whether it was the last: then ``result`` is what ``start`` returned.
    result : Result
        What the rounds have come to; read from a file, its arrays are views of that file.
    strategy : RecordDict
        The strategy's ``state_dict()``.
    grid : RecordDict
        The grid's ``state_dict()``.
    random : dict of str to ndarray
        Where the process-wide generators stand.
    stored : StoredArrays or None
        The file in which the arrays of ``result`` lie already; it is linked, not written again.
    """

    start: int
    server_round: int
    finished: bool
    result: Result
    strategy: RecordDict = field(default_factory=RecordDict)
    grid: RecordDict = field(default_factory=RecordDict)
    random: dict[str, NDArray[Any]] = field(default_factory=dict)
    stored: StoredArrays | None = None


@dataclass(frozen=True)
class Saved:
    """A checkpoint that lies on disk, as the run log names it."""

    start: int
    server_round: int
    sha256: str
    size_bytes: int
    arrays_sha256: str = ""
    """Of the file that holds the arrays, if it is another one."""

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"start-{self.start}-round-{self.server_round}.safetensors"

    @property
    def arrays_name(self) -> str:
        """The name of the file that holds the arrays, if it is another one."""
        return f"start-{self.start}-round-{self.server_round}-arrays.safetensors"


class Checkpoints:
    """The newest checkpoint of each call of ``strategy.start``, one file each.

    Parameters
    ----------
    folder : Path
        Where the files lie; it is locked for this process.

    Raises
    ------
    ConfigError
        Another process is at work on this run.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(Path(folder))
    ...     saved = checkpoints.save(Checkpoint(1, 3, False, Result()))
    ...     checkpoints.settle(saved)
    ...     print(saved.name, checkpoints.latest(1).server_round, checkpoints.latest(2))
    ...     checkpoints.close()
    start-1-round-3.safetensors 3 None
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._newest: dict[int, Saved] = {}
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder / "lock")

    def adopt(self, saved: Iterable[Saved]) -> None:
        """Take over what the run log names, in its order, and remove all else that lies here."""
        self._newest = {one.start: one for one in saved}
        names = {name for one in self._newest.values() for name in (one.name, one.arrays_name)}
        for path in self._folder.glob("start-*"):
            if path.name not in names:
                path.unlink()

    def save(self, checkpoint: Checkpoint) -> Saved:
        """Write a checkpoint, and return what the run log is to say of it.

        The file is on the disk when this returns. Arrays are written as they lie, without a copy.

        Raises
        ------
        OSError
            It cannot be written; the error names the file.
        """
        buffers = encode(_records(checkpoint))
        path = self._folder / f"start-{checkpoint.start}.part"
        try:
            with naming(path), path.open("wb") as file:
                size_bytes, sha256 = write_hashed(file, buffers)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        stored = checkpoint.stored
        saved = Saved(
            checkpoint.start,
            checkpoint.server_round,
            sha256,
            size_bytes,
            stored.sha256 if stored else "",
        )
        with naming(path):
            if stored is not None:
                link = self._folder / saved.arrays_name
                link.unlink(missing_ok=True)
                link.hardlink_to(stored.path)
            path.replace(self._folder / saved.name)
            sync(self._folder)
        return saved

    def settle(self, saved: Saved) -> None:
        """Take this as the newest, now that the run log names it, and remove the one before."""
        before, self._newest[saved.start] = self._newest.get(saved.start), saved
        if before is not None and before.name != saved.name:
            for name in (before.name, before.arrays_name):
                (self._folder / name).unlink(missing_ok=True)

    def latest(self, start: int) -> Checkpoint | None:
        """Return where the n-th call of ``strategy.start`` stands, if it has a checkpoint.

        Raises
        ------
        ProtocolError
            Its file is not what was written.
        """
        saved = self._newest.get(start)
        return None if saved is None else _read(self._folder, saved)

    def close(self) -> None:
        """Let others work on this run."""
        self._lock.close()


def _records(checkpoint: Checkpoint) -> RecordDict:
    result = checkpoint.result
    records = RecordDict({"random": ArrayRecord(checkpoint.random)})
    if checkpoint.stored is None:
        records["arrays"] = result.arrays
    records.update((f"strategy/{name}", record) for name, record in checkpoint.strategy.items())
    records.update((f"grid/{name}", record) for name, record in checkpoint.grid.items())
    for phase, attribute in _METRICS.items():
        by_round: dict[int, MetricRecord] = getattr(result, attribute)
        records.update((f"{phase}/{number}", metrics) for number, metrics in by_round.items())
    seconds = [astuple(timing) for timing in result.timings.values()]
    # As tensors: there may be more text here than the header of a file can take.
    failures = json.dumps([astuple(failure) for failure in result.failures]).encode()
    records["past"] = ArrayRecord(
        {
            "rounds": np.array(list(result.timings), np.int64),
            "seconds": np.array(seconds, np.float64),
            "failures": np.frombuffer(failures, np.uint8),
        }
    )
    records["about"] = ConfigRecord(
        {
            "start": checkpoint.start,
            "round": checkpoint.server_round,
            "finished": checkpoint.finished,
            "stopped-early": result.stopped_early,
            "privacy": json.dumps(result.privacy.to_json()) if result.privacy else "",
        }
    )
    return records


def _read(folder: Path, saved: Saved) -> Checkpoint:
    records = _checked(folder / saved.name, saved.sha256)
    if saved.arrays_sha256:
        records.update(_checked(folder / saved.arrays_name, saved.arrays_sha256))
    about, past = records.config_records["about"], records.array_records["past"].views()
    result = Result(records.array_records["arrays"])
    for phase, attribute in _METRICS.items():
        by_round = {int(n): m for n, m in _under(phase, records).metric_records.items()}
        setattr(result, attribute, by_round)
    failures = json.loads(past["failures"].tobytes())
    result.failures = [Failure(*fields) for fields in failures]
    for number, seconds in zip(past["rounds"].tolist(), past["seconds"].tolist(), strict=True):
        result.timings[number] = RoundTiming(*seconds)
    result.stopped_early = bool(about["stopped-early"])
    if privacy := str(about.get("privacy", "")):
        result.privacy = PrivacyStatement.from_json(json.loads(privacy))
    return Checkpoint(
        saved.start,
        saved.server_round,
        bool(about["finished"]),
        result,
        _under("strategy", records),
        _under("grid", records),
        records.array_records["random"].views(),
    )


def _checked(path: Path, sha256: str) -> RecordDict:
    """Return what a file holds, if its bytes are those that were written."""
    body = _present(path)
    if content_hash([body]) != sha256:
        raise ProtocolError(
            f"a checkpoint is not what was written: its {len(body)} bytes are other ones",
            hint="restore the file from a copy, or start the run anew in another folder",
            file=path,
        )
    return decode(body)


def _under(prefix: str, records: RecordDict) -> RecordDict:
    """Return the records whose names begin so, without that beginning."""
    prefix += "/"
    found = {k.removeprefix(prefix): r for k, r in records.items() if k.startswith(prefix)}
    return RecordDict(found)


def _present(path: Path) -> memoryview:
    """Return the bytes of a file, which are read from the disk when they are looked at."""
    try:
        return mapped(path)
    except FileNotFoundError:
        raise ProtocolError(
            "a checkpoint that the run log names is gone",
            hint="restore the file from a copy, or start the run anew in another folder",
            file=path,
        ) from None


def _locked(path: Path) -> IO[bytes]:
    """Return the file, locked for this process until it is closed or the process dies."""
    with naming(path):
        file = path.open("ab")
    if sys.platform != "win32":
        import fcntl

        try:
            # A lock of the process: unlike flock's, the workers that are forked do not hold it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise ConfigError(
                "another process is at work on this run",
                hint="wait until it has ended, or end it",
                run_dir=path.parent.parent,
            ) from None
    return file
