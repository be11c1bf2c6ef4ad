"""What a node has computed and not been thanked for, kept so that no crash loses or doubles it.

A folder for each run::

    state             the context's state after the last task that is done
    done/<id>.json    a task that is done, with what came of it
    replies/<id>      the body of its reply
    states/<id>       the state after it, until it has become ``state``

A worker writes the reply and the new state. Then ``done/<id>.json`` appears by a rename, which is
the one moment at which the task becomes done; only after it is the new state renamed to ``state``.
Killed before that moment, the task is run again from the old state; killed after it, opening the
journal finishes the second rename. So a change of state is applied once, and a reply is kept until
the server says that it is safe.

All that is brought to the disk where there is a state. Where there is none, a power cut may leave
half a record or half a reply: that task was not done, and is run again.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from umbel.base import SYSTEM_CLOCK, ConfigError, ProtocolError, content_hash, mapped, sync
from umbel.deployment.atomic import PRIVATE, write_atomically

_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


STATE_KEPT_S = 30 * 24 * 3600.0
"""How long a node keeps the state of a run that was not finished, after its last task."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no reply: all that leaves the node about it."""

    code: int
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task.

    Attributes
    ----------
    run_id, message_id : str
        The task.
    size_bytes : int
        Of the reply's body.
    hash : str
        Of the reply's body.
    failure : Failure or None
        Why there is no reply.
    has_state : bool
        Whether there is a new state.
    policy : str
        Digest of the policy under which it may leave; empty where there is none.
    codec : str
        In which the reply's body is written; empty for the default one.
    """

    run_id: str
    message_id: str
    size_bytes: int = 0
    hash: str = ""
    failure: Failure | None = None
    has_state: bool = False
    policy: str = ""
    codec: str = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """The files of one task."""

    state: Path
    new_state: Path
    reply: Path


class Journal:
    """Keeps what came of tasks in a folder.

    Parameters
    ----------
    folder : Path
        Of the node; made when it is missing.

    Raises
    ------
    ConfigError
        Another node uses the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._runs = folder / "runs"
        self._runs.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        self._done: dict[str, Outcome] = {}
        for run in sorted(self._runs.iterdir()):
            self._recover(run)
            if not self._is_wanted(run):
                shutil.rmtree(run, ignore_errors=True)

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.close()

    def done(self) -> list[Outcome]:
        """Return what was not forgotten, the oldest first."""
        return list(self._done.values())

    def find(self, message_id: str) -> Outcome | None:
        """Return what came of a task, if it is done."""
        return self._done.get(message_id)

    def prepare(self, run_id: str, message_id: str) -> Desk:
        """Return the files of a task that is to be run, cleared of earlier attempts.

        Raises
        ------
        ProtocolError
            A name is not fit to be one of a file.
        """
        check_names(run_id, message_id)
        run = self._runs / run_id
        for name in ("done", "replies", "states"):
            (run / name).mkdir(parents=True, exist_ok=True)
        desk = Desk(run / "state", run / "states" / message_id, run / "replies" / message_id)
        desk.new_state.unlink(missing_ok=True)
        desk.reply.unlink(missing_ok=True)
        return desk

    def reply_path(self, outcome: Outcome) -> Path:
        """Return the file that holds the body of a reply."""
        return self._runs / outcome.run_id / "replies" / outcome.message_id

    def commit(self, outcome: Outcome) -> None:
        """Make a task done: from here on it is not run again."""
        check_names(outcome.run_id, outcome.message_id)
        run = self._runs / outcome.run_id
        record = run / "done" / f"{outcome.message_id}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        if outcome.has_state:
            # A state may hold secrets that serve once, as secure aggregation's do. After a power
            # cut the task must not be run again from the old one: its reply may have left.
            for file in (run / "states" / outcome.message_id, self.reply_path(outcome)):
                with suppress(FileNotFoundError):  # the app may do away with them
                    sync(file)
            for folder in (run / "states", run / "replies", run, self._runs):
                sync(folder)
            write_atomically(record, _encoded(outcome), mode=PRIVATE)
        else:
            draft = record.with_suffix(".draft")
            draft.write_bytes(_encoded(outcome))
            os.replace(draft, record)
        self._done[outcome.message_id] = outcome
        _apply(run, outcome)
        if outcome.has_state:
            sync(run)

    def forget(self, message_id: str) -> None:
        """Drop what came of a task: the server has it, or does not want it."""
        outcome = self._done.pop(message_id, None)
        if outcome is not None:
            # The record goes last: without its body it would be no reply.
            record = self._runs / outcome.run_id / "done" / f"{message_id}.json"
            self.reply_path(outcome).unlink(missing_ok=True)
            record.unlink(missing_ok=True)

    def forget_run(self, run_id: str, *, with_state: bool = True) -> None:
        """Drop all that a run has left here, or all but its state."""
        check_names(run_id)
        self._done = {name: o for name, o in self._done.items() if o.run_id != run_id}
        run = self._runs / run_id
        for left in (run / "done", run / "replies", run / "states"):
            shutil.rmtree(left, ignore_errors=True)
        if with_state or not (run / "state").exists():
            shutil.rmtree(run, ignore_errors=True)

    def _is_wanted(self, run: Path) -> bool:
        """Whether a run has replies to deliver, or a state that was written of late."""
        state = run / "state"
        age_s = SYSTEM_CLOCK.now() - state.stat().st_mtime if state.exists() else math.inf
        return age_s < STATE_KEPT_S or any(o.run_id == run.name for o in self._done.values())

    def _is_whole(self, outcome: Outcome) -> bool:
        try:
            reply = mapped(self.reply_path(outcome))
        except FileNotFoundError:
            return False
        return outcome.has_state or content_hash([reply]) == outcome.hash

    def _recover(self, run: Path) -> None:
        for record in sorted((run / "done").glob("*.json"), key=lambda p: p.stat().st_mtime_ns):
            try:
                fields = json.loads(record.read_bytes())
            except ValueError:
                record.unlink()  # the power was cut before it was on the disk
                continue
            failure = fields.pop("failure")
            outcome = Outcome(**fields, failure=Failure(**failure) if failure else None)
            _apply(run, outcome)
            if outcome.failure is None and not self._is_whole(outcome):
                record.unlink()  # it was being forgotten, or the power was cut
                continue
            self._done[outcome.message_id] = outcome
        kept = {o.message_id for o in self._done.values() if o.run_id == run.name}
        for left in (*run.glob("states/*"), *run.glob("replies/*"), *run.glob("done/*.draft")):
            if left.parent.name != "replies" or left.name not in kept:
                left.unlink()


def check_names(run_id: str, message_id: str = "-") -> None:
    """Check that names from a peer can be those of files.

    Raises
    ------
    ProtocolError
        They cannot.
    """
    if not _RUN_ID.fullmatch(run_id) or not _MESSAGE_ID.fullmatch(message_id):
        raise ProtocolError(
            f"run {run_id[:100]!r}, message {message_id[:100]!r}: no such names",
            hint="names are letters, digits, dashes and underscores",
        )


def _encoded(outcome: Outcome) -> bytes:
    return json.dumps(asdict(outcome)).encode()


def _apply(run: Path, outcome: Outcome) -> None:
    if outcome.has_state:
        with suppress(FileNotFoundError):  # it was applied before a crash
            os.replace(run / "states" / outcome.message_id, run / "state")


def _locked(folder: Path) -> IO[str]:
    file = (folder / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(
            "another node runs in this folder", hint="give each node a folder", folder=folder
        ) from None
    return file
