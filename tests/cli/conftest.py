"""A folder of runs, as runs leave it, and commands beside an app."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from umbel.base import VirtualClock
from umbel.cli import app
from umbel.serverapp import RunLog

Event = tuple[str, dict[str, Any]]
WriteRun = Callable[..., Path]
Umbel = Callable[..., Result]
WriteApp = Callable[[str, str, str], Path]


def events_of(run_id: str, status: str = "succeeded", rounds: int = 2) -> list[Event]:
    """Return the events of a small run; node 4 fails in round 1."""
    events: list[Event] = [
        (
            "run_started",
            {
                "run_id": run_id,
                "seed": 7,
                "app": "demo",
                "nodes": 10,
                "backend": "processes",
                "run_config": {"lr": 0.1, "note": "[a] :bug:"},
            },
        ),
        ("strategy_started", {"strategy": "FedAvg", "num_rounds": rounds}),
        ("server_evaluated", {"round": 0, "metrics": {"accuracy": 0.1}, "seconds": 0.1}),
    ]
    for number in range(1, rounds + 1):
        events.append(("round_started", {"round": number, "num_rounds": rounds}))
        for phase in ("train", "evaluate"):
            cohort = {"round": number, "phase": phase, "cohort": 2, "nodes": [3, 4]}
            events.append(("phase_started", cohort))
            if number == 1 and phase == "train":
                where = {"round": number, "phase": phase, "node_id": 4}
                events.append(("failure", where | {"kind": "ValueError", "message": "no [data]"}))
            metrics = {"loss": 1 / number, "num-examples": 20}
            outcome = {"replies": 2, "failures": 0, "metrics": metrics, "seconds": 0.2}
            events.append(("phase_finished", {"round": number, "phase": phase} | outcome))
        metrics = {"accuracy": 0.5 + number / 10, "loss": 2 / number}
        events.append(("server_evaluated", {"round": number, "metrics": metrics, "seconds": 0.1}))
        events.append(("round_finished", {"round": number, "num_rounds": rounds, "seconds": 0.5}))
    if status == "succeeded":
        end = {"status": status, "seconds": 1.25, "rounds": rounds, "model_sha256": "ab" * 32}
        events.append(("run_finished", end))
    elif status == "failed":
        events.append(
            (
                "run_failed",
                {"status": status, "error": "it broke", "traceback": "File x", "seconds": 1.25},
            )
        )
    return events


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Return a function that writes ``runs/<run_id>/log.jsonl`` and returns the run's folder."""

    def write(run_id: str, at: float = 1_800_000_000.0, **how: Any) -> Path:
        folder = tmp_path / "runs" / run_id
        with RunLog(folder / "log.jsonl", VirtualClock(at)) as log:
            for event, data in events_of(run_id, **how):
                log.append(event, **data)
        return folder

    return write


@pytest.fixture
def umbel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Umbel:
    """Return a function that runs a command in ``tmp_path`` on a wide terminal."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})

    return invoke


@pytest.fixture
def write_app(tmp_path: Path) -> WriteApp:
    """Return a function that makes an app, its module under a name that no other test uses."""

    def write(name: str, code: str, project: str) -> Path:
        module = f"{name}_" + "".join(filter(str.isalnum, tmp_path.name))
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{module}.py").write_text(code)
        (folder / "pyproject.toml").write_text(project.format(module=module))
        return folder

    return write
