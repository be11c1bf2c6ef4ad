"""Private training at the clients is counted by the server before it happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.clientapp import ClientApp
from umbel.privacy import GaussianEvent, Poisson, make_accountant
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import ServerApp, read_log
from umbel.simulation import run_simulation
from umbel.strategies import FedAvg, with_example_dp

STEPS = 5
NUMBERS = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": STEPS, "max_norm": 0.5}


def spent(rounds: int) -> float:
    account = make_accountant("pld", "add-or-remove-one")
    return account.compose(GaussianEvent(1.0, Poisson(0.1)), STEPS * rounds).epsilon(1e-5)


def federate(folder: Path, rounds: int, budget: float | None = None):
    client, server, asked = ClientApp(), ServerApp(), []

    @client.train()
    def train(message, context):
        asked.append(dict(message.content["dp"]))
        content = RecordDict({"arrays": ArrayRecord({"w": np.ones(2)})})
        content["metrics"] = MetricRecord({"num-examples": 1})
        return Message(content, reply_to=message)

    @server.main()
    def main(grid, context):
        strategy = with_example_dp(
            FedAvg(fraction_evaluate=0.0), **NUMBERS, delta=1e-5, epsilon_budget=budget
        )
        return strategy.start(grid, ArrayRecord({"w": np.zeros(2)}), num_rounds=rounds)

    result = run_simulation(server, client, 3, "inprocess", seed=1, run_dir=folder)
    return result, asked


def test_the_clients_are_told_the_numbers_and_all_steps_are_counted(tmp_path: Path) -> None:
    result, asked = federate(tmp_path, rounds=2)
    numbers = {"noise-multiplier": 1.0, "sampling-rate": 0.1, "steps": STEPS, "max-norm": 0.5}
    assert asked == [numbers] * 6
    assert result.privacy.epsilon == pytest.approx(spent(2))
    assert result.privacy.unit == "record"
    log = [
        entry.data for entry in read_log(tmp_path / "log.jsonl") if entry.event == "privacy_spent"
    ]
    assert [entry["count"] for entry in log] == [STEPS, STEPS]


def test_the_run_ends_before_the_round_that_exceeds_the_budget(tmp_path: Path) -> None:
    result, asked = federate(tmp_path, rounds=9, budget=(spent(3) + spent(4)) / 2)
    assert len(asked) == 3 * 3
    assert result.stopped_early
    assert result.privacy.epsilon == pytest.approx(spent(3))


@pytest.mark.parametrize("name", ["noise_multiplier", "steps", "max_norm", "sampling_rate"])
def test_a_number_out_of_its_range_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        with_example_dp(FedAvg(), **NUMBERS | {name: float("nan")}, delta=1e-5)
