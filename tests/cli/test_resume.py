"""``umbel run --resumable`` and ``umbel resume``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

PROJECT = """
[project]
name = "tiny"

[tool.umbel.app.components]
serverapp = "{module}:server_app"
clientapp = "{module}:client_app"

[tool.umbel.app.config]
num-rounds = 2

[tool.umbel.simulation]
nodes = 4
backend = "inprocess"
"""

APP = """
from pathlib import Path

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

client_app, server_app = ClientApp(), ServerApp()


@client_app.train()
def train(message, context):
    if context.node_config["partition-id"] == 1:
        raise ValueError("no data")
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    content = RecordDict({
        "arrays": ArrayRecord([weights + np.random.normal(size=3)]),
        "metrics": MetricRecord({"num-examples": 1}),
    })
    return Message(content, reply_to=message)


def evaluate(number, arrays):
    if number == 2 and Path("broken").exists():
        raise RuntimeError("the server app broke")


@server_app.main()
def main(grid, context):
    return FedAvg(fraction_evaluate=0.0).start(
        grid,
        ArrayRecord([np.zeros(3)]),
        num_rounds=context.run_config["num-rounds"],
        evaluate_fn=evaluate,
    )
"""

Umbel = Callable[..., Result]


@pytest.fixture(autouse=True)
def tiny(write_app: Callable[[str, str, str], Path]) -> Path:
    """Make a small app, ``tiny``."""
    return write_app("tiny", APP, PROJECT)


def answer_of(result: Result) -> dict[str, Any]:
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    return answer


RUN = ("run", "tiny", "--seed", "7", "--resumable", "-c", "num-rounds=3", "--json")


def test_a_run_that_failed_goes_on_to_the_same_model(umbel: Umbel) -> None:
    whole = answer_of(umbel(*RUN))
    Path("broken").touch()
    failed = umbel(*RUN)
    assert failed.exit_code == 1
    Path("broken").unlink()
    resumed = umbel("resume", answer_of(failed)["run-id"], "--json")
    assert resumed.exit_code == 0, resumed.output
    answer = answer_of(resumed)
    for key in ("model_sha256", "rounds", "failures", "nodes", "seed", "status"):
        assert answer[key] == whole[key]
    assert "round 3/3" in resumed.stderr
    assert "round 1/3" not in resumed.stderr
    shown = answer_of(umbel("show", answer["run-id"], "--json"))
    assert (shown["status"], len(shown["failures"])) == ("succeeded", 3)


def test_a_run_that_fails_again(umbel: Umbel) -> None:
    Path("broken").touch()
    run_id = answer_of(umbel(*RUN))["run-id"]
    again = umbel("resume", run_id)
    assert again.exit_code == 1
    assert "the server app broke" in again.stderr
    assert f"umbel show {run_id}" in again.stderr


def test_a_run_that_has_finished_is_refused(umbel: Umbel) -> None:
    run_id = answer_of(umbel(*RUN))["run-id"]
    again = umbel("resume", run_id)
    assert again.exit_code == 2
    assert "the run has finished" in again.stderr


def test_no_such_run(umbel: Umbel) -> None:
    assert umbel("resume", "latest").exit_code == 2


def test_an_app_that_is_an_object_is_resumed_in_python(umbel: Umbel, tmp_path: Path) -> None:
    run_id = answer_of(umbel(*RUN))["run-id"]
    log = tmp_path / "runs" / run_id / "log.jsonl"
    log.write_text(log.read_text().replace('"app_dir": "', '"was": "'))
    result = umbel("resume", run_id)
    assert result.exit_code == 2
    assert "does not say where the run's app lies" in result.stderr
