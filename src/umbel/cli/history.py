"""The history of a run, folded from its events: the same while it runs and from its log."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from umbel.base import ConfigError
from umbel.privacy import WITHOUT_NOISE

PHASES = ("train", "evaluate", "server")

Metrics = dict[str, Any]


@dataclass(slots=True)
class RunHistory:
    """What is known of a run.

    Attributes
    ----------
    about : dict
        What ``run_started`` says: ``run_id``, ``app``, ``seed``, ``backend``, ``nodes``,
        ``run_config``.
    status : str
        ``"unfinished"`` until the run ends; then ``"succeeded"``, ``"failed"`` or
        ``"interrupted"``. ``"empty"`` of a log without a whole line.
    metrics : dict
        By phase (``"train"``, ``"evaluate"``, ``"server"``), then by round.
    failures : list of dict
        ``round``, ``phase``, ``node_id``, ``kind`` and ``message`` of each.
    round_seconds : dict of int to float
    learning_began : bool
        Whether a strategy was started.
    error, traceback : str or None
        What ended a run that failed.
    privacy : dict or None
        The newest privacy statement, as JSON has it; it names what was trained without privacy.
    stopped : str or None
        Why the run ended in good order before its last round, where the privacy budget did it.
    started_at : float or None
        Seconds since the Unix epoch; only a log knows it.
    """

    about: dict[str, Any] = field(default_factory=dict)
    status: str = "unfinished"
    learning_began: bool = False
    num_rounds: int = 0
    metrics: dict[str, dict[int, Metrics]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    round_seconds: dict[int, float] = field(default_factory=dict)
    seconds: float | None = None
    model_sha256: str | None = None
    error: str | None = None
    traceback: str | None = None
    privacy: dict[str, Any] | None = None
    stopped: str | None = None
    started_at: float | None = None
    _failures_kept: int = 0
    _is_private: bool = False
    """Whether the call of ``strategy.start`` in progress has spent privacy."""

    def apply(self, event: str, data: Mapping[str, Any]) -> None:
        """Take in one event; events that tell nothing new here are passed over."""
        match event:
            case "run_started":
                self.about = dict(data)
            case "strategy_started":
                self.learning_began = True
                self.num_rounds = data["num_rounds"]
                self._is_private = False
            case "phase_finished":
                if data["phase"] == "train":
                    self._note_privacy()
                self._add_metrics(data["phase"], data["round"], data["metrics"])
            case "server_evaluated":
                self._add_metrics("server", data["round"], data["metrics"])
            case "privacy_spent":
                self.privacy = dict(data["statement"])
                self._is_private = True
            case "privacy_budget_exhausted":
                self.stopped = f"before round {data['round']}: {data['reason']}"
            case "failure":
                self.failures.append(dict(data))
            case "round_finished":
                self.round_seconds[data["round"]] = data["seconds"]
            case "checkpoint_saved":
                self._failures_kept = len(self.failures)
            case "run_resumed":
                # Rounds that were cut off are done again, and overwrite what they gave before.
                del self.failures[self._failures_kept :]
                self.status, self.seconds = "unfinished", None
                self.learning_began = data["start"] > 0
                self.error = self.traceback = self.stopped = None
            case "run_finished" | "run_failed":
                self.status = data["status"]
                self.seconds = data["seconds"]
                self.model_sha256 = data.get("model_sha256")
                self.error = data.get("error")
                self.traceback = data.get("traceback")

    @property
    def rounds(self) -> int:
        """The number of rounds that are over."""
        return len(self.round_seconds)

    def last_metrics(self) -> dict[str, Metrics]:
        """Return the newest metrics of each phase."""
        return {
            phase: by_round[max(by_round)] for phase, by_round in self.metrics.items() if by_round
        }

    def as_json(self) -> dict[str, Any]:
        """Return the history as plain values, rounds under their number."""
        return {
            "run-id": self.about.get("run_id"),
            "app": self.about.get("app"),
            "status": self.status,
            "seed": self.about.get("seed"),
            "backend": self.about.get("backend"),
            "nodes": self.about.get("nodes"),
            "rounds": self.rounds,
            "model_sha256": self.model_sha256,
            "metrics": self.last_metrics(),
            "failures": len(self.failures),
            "privacy": self.privacy,
            "stopped": self.stopped,
            "seconds": self.seconds,
        }

    def _note_privacy(self) -> None:
        """Let the statement name this training, if it was without privacy."""
        told = self.privacy
        if not self._is_private and told is not None and WITHOUT_NOISE not in told["not_covered"]:
            told["not_covered"] = [*told["not_covered"], WITHOUT_NOISE]

    def _add_metrics(self, phase: str, server_round: int, metrics: Mapping[str, Any]) -> None:
        if metrics:
            # The log spells NaN and infinity as text, which JSON has no numbers for.
            self.metrics.setdefault(phase, {})[server_round] = {
                name: float(value) if isinstance(value, str) else value
                for name, value in metrics.items()
            }


def read_history(folder: Path) -> RunHistory:
    """Fold the log of the run in ``folder``.

    Raises
    ------
    ConfigError
        If there is no log, or a line of it is not what a run writes.
    """
    log = folder / "log.jsonl"
    try:
        lines = log.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ConfigError(
            f"cannot read the run's log: {error.strerror}", hint="see: umbel ls", file=log
        ) from None
    history = RunHistory()
    for number, line in enumerate(lines, start=1):
        # A run that was killed may leave half a line at the end.
        if not line.endswith(b"\n"):
            break
        try:
            entry = json.loads(line)
            history.apply(entry["event"], entry["data"])
            if history.started_at is None:
                history.started_at = entry["at"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"line {number} of the log is not one that a run writes: {error!r}",
                hint="restore the file from a copy, or delete the run's folder",
                file=log,
            ) from error
    if history.started_at is None:
        history.status = "empty"
    return history


def find_run(name: str, runs_dir: Path) -> Path:
    """Return the folder of the run with this id, unique start of an id, or path, or the latest.

    Raises
    ------
    ConfigError
        If no run, or more than one, has that name.
    """
    folders = run_folders(runs_dir)
    if name == "latest":
        if folders:
            return folders[0]
        raise ConfigError(f"no runs in {runs_dir}", hint="make one with: umbel run APP")
    matches = [folder for folder in folders if name and folder.name.startswith(name)]
    exact = [folder for folder in matches if folder.name == name]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        raise ConfigError(
            f"{len(matches)} runs start with {name!r}",
            hint=f"write more of the id: {', '.join(folder.name for folder in matches[:4])}",
        )
    path = Path(name)
    if name and (path / "log.jsonl").is_file():
        return path
    raise ConfigError(
        f"no run {name!r} in {runs_dir}",
        hint="umbel ls lists the runs; --runs-dir names another folder",
    )


def run_folders(runs_dir: Path) -> list[Path]:
    """Return the folders of all runs, the newest first.

    Raises
    ------
    ConfigError
        If ``runs_dir`` is there and is no folder.
    """
    if runs_dir.exists() and not runs_dir.is_dir():
        raise ConfigError(
            f"{runs_dir} is a file, not a folder of runs",
            hint="--runs-dir names the folder that holds the runs' folders",
        )
    return sorted((log.parent for log in runs_dir.glob("*/log.jsonl")), key=_age, reverse=True)


def _age(folder: Path) -> tuple[float, str]:
    # Ids sort by the second only, and two runs may begin in one.
    with (folder / "log.jsonl").open("rb") as log:
        try:
            return float(json.loads(log.readline())["at"]), folder.name
        except (ValueError, KeyError, TypeError):
            # Without a line, or with one that cannot be read, it was hardly written to since.
            return os.fstat(log.fileno()).st_mtime, folder.name
