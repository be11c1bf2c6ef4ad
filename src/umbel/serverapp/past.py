"""What the log of a run tells whoever goes on with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from umbel.base import ConfigError, ProtocolError, sync
from umbel.serverapp.checkpoint import Saved
from umbel.serverapp.runlog import naming, read_log


@dataclass
class Past:
    """A run that was cut off.

    Attributes
    ----------
    entries : int
        How many entries its log has; without any, nothing had begun.
    run_id, seed, run_config : str, int, dict
        What ``run_started`` says.
    saved : list of Saved
        The checkpoints that the log names, in its order.
    metrics_size_bytes : int
        How much of ``metrics.jsonl`` is from before the last of them.
    """

    entries: int = 0
    run_id: str = ""
    seed: int = 0
    run_config: dict[str, Any] = field(default_factory=dict)
    saved: list[Saved] = field(default_factory=list)
    metrics_size_bytes: int = 0

    @staticmethod
    def place(folder: Path | None, has_log: bool) -> Path:
        """Return where the checkpoints of the run in ``folder`` lie.

        Raises
        ------
        ConfigError
            There is no folder, or it holds no log although it should.
        """
        if folder is None:
            raise ConfigError(
                "a run without a folder cannot be resumed", hint="name one: run_dir=..."
            )
        if has_log and not (folder / "log.jsonl").exists():
            raise ConfigError(
                "there is no run to resume", hint="name the folder of a run", run_dir=folder
            )
        return folder / "checkpoints"

    @classmethod
    def of(cls, folder: Path | None) -> Self:
        """Read the log in ``folder``.

        Raises
        ------
        ConfigError
            There is none, or the run has finished.
        ProtocolError
            The log was changed after it was written.
        """
        path = cls.place(folder, has_log=True).parent / "log.jsonl"
        past, event = cls(), ""
        for entry in read_log(path):
            past.entries, event = past.entries + 1, entry.event
            try:
                past._take(entry.event, entry.data)
            except (KeyError, TypeError) as error:
                raise ProtocolError(
                    "an entry of the run log lacks what a run writes", file=path, line=past.entries
                ) from error
        if event == "run_finished":
            raise ConfigError(
                "the run has finished, so there is nothing to resume",
                hint="start a new one in another folder",
                run_dir=folder,
            )
        if past.entries and not past.run_id:
            raise ProtocolError("the run log does not say how the run was started", file=path)
        return past

    def truncate_metrics(self, path: Path) -> None:
        """Cut off what rounds that are done again have written."""
        if path.exists() and path.stat().st_size > self.metrics_size_bytes:
            with naming(path):
                os.truncate(path, self.metrics_size_bytes)

    def _take(self, event: str, data: dict[str, Any]) -> None:
        if event == "run_started":
            self.run_id, self.seed = data["run_id"], data["seed"]
            self.run_config = data["run_config"]
        elif event == "checkpoint_saved":
            saved = Saved(
                data["start"],
                data["round"],
                data["sha256"],
                data["size_bytes"],
                data.get("arrays_sha256", ""),
            )
            self.saved.append(saved)
            self.metrics_size_bytes = data["metrics_size_bytes"]


def size_on_disk(path: Path) -> int:
    """Return the size of a file in bytes, once all of it is on the disk; 0 if there is none."""
    if not path.exists():
        return 0
    with naming(path):
        sync(path)
        sync(path.parent)
        return path.stat().st_size
