"""What the commands say of a run's privacy, before and after it was cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dp_accounting  # noqa: F401 - takes a second to load, and no test is to be charged for it
import pytest
from typer.testing import Result

PROJECT = """
[project]
name = "private"

[tool.umbel.app.components]
serverapp = "{module}:server_app"
clientapp = "{module}:client_app"

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
from umbel.strategies import FedAvg, with_central_dp

client_app, server_app = ClientApp(), ServerApp()


@client_app.train()
def train(message, context):
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    content = {"arrays": ArrayRecord([weights + 1]), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)


def evaluate(number, arrays):
    if number == 2 and Path("broken").exists():
        raise RuntimeError("the server app broke")


@server_app.main()
def main(grid, context):
    strategy = with_central_dp(
        FedAvg(fraction_evaluate=0.0), noise_multiplier=1.0, clipping=1.0, cohort=4, delta=1e-5,
        accountant="rdp", epsilon_budget=9.0)
    return strategy.start(grid, ArrayRecord([np.zeros(3)]), num_rounds=9, evaluate_fn=evaluate)
"""

Umbel = Callable[..., Result]


@pytest.fixture(autouse=True)
def private(write_app: Callable[[str, str, str], Path]) -> Path:
    """Make a small app, ``private``."""
    return write_app("private", APP, PROJECT)


def answer_of(result: Result) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_the_whole_statement_is_printed(umbel: Umbel) -> None:
    result = umbel("run", "private", "--seed", "7")
    assert result.exit_code == 0, result.output
    for shown in (result.stdout, umbel("show", "latest").stdout):
        words = " ".join(shown.split())
        assert "at δ = 1e-05 for each client" in words
        assert "noise added at the server, randomness seeded: simulation only" in words
        assert "Not covered: the clients' evaluation metrics" in words


def test_why_a_run_stopped_is_told(umbel: Umbel) -> None:
    for shown in (umbel("run", "private", "--seed", "7"), umbel("show", "latest")):
        words = " ".join(shown.stdout.split())
        assert "stopped before round 3: the next release would bring ε from" in words
        assert "over the budget of 9" in words
    assert "over the budget" in answer_of(umbel("show", "latest", "--json"))["stopped"]


def test_json_holds_it_and_a_resumed_run_comes_to_the_same(umbel: Umbel) -> None:
    whole = answer_of(umbel("run", "private", "--seed", "7", "--json"))
    assert 0 < whole["privacy"]["epsilon"] <= 9.0
    assert whole["privacy"]["delta"] == 1e-5
    assert 0 < whole["rounds"] < 9
    Path("broken").touch()
    failed = umbel("run", "private", "--seed", "7", "--json", "--resumable")
    assert failed.exit_code == 1
    Path("broken").unlink()
    resumed = answer_of(umbel("resume", answer_of(failed)["run-id"], "--json"))
    for key in ("model_sha256", "rounds", "privacy"):
        assert resumed[key] == whole[key]
    assert answer_of(umbel("show", "latest", "--json"))["privacy"] == whole["privacy"]


def test_models_without_noise_after_private_ones_are_told_of(umbel: Umbel, tmp_path: Path) -> None:
    more = "strategy.start(grid, ArrayRecord([np.zeros(3)]), 1)\n    return {}.start"
    for path in (tmp_path / "private").glob("*.py"):
        bare = more.format("FedAvg(fraction_evaluate=0.0)")
        path.write_text(path.read_text().replace("return strategy.start", bare))
    for shown in (umbel("run", "private", "--seed", "7"), umbel("show", "latest")):
        assert "models of calls of strategy.start without noise" in " ".join(shown.stdout.split())


def test_a_run_without_noise_promises_nothing(umbel: Umbel, tmp_path: Path) -> None:
    for path in (tmp_path / "private").glob("*.py"):
        path.write_text(path.read_text().replace("strategy.start", "strategy.inner.start"))
    result = umbel("run", "private", "--seed", "7")
    assert result.exit_code == 0, result.output
    assert "δ" not in result.stdout
    assert answer_of(umbel("show", "latest", "--json"))["privacy"] is None
