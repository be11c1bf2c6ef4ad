"""Private training at the clients is counted by the server before it happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.clientapp import ClientApp, secagg_mod
from umbel.privacy import GaussianEvent, Poisson, make_accountant
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import ServerApp, read_log
from umbel.simulation import run_simulation
from umbel.strategies import FedAvg, with_example_dp, with_secagg

STEPS = 5
NUMBERS = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": STEPS, "max_norm": 0.5}


def spent(rounds: int) -> float:
    account = make_accountant("pld", "add-or-remove-one")
    return account.compose(GaussianEvent(1.0, Poisson(0.1)), STEPS * rounds).epsilon(1e-5)


def private(budget: float | None = None, **options):
    inner = FedAvg(fraction_evaluate=0.0, **options)
    return with_example_dp(inner, **NUMBERS, delta=1e-5, epsilon_budget=budget)


def federate(folder: Path, rounds: int, strategy, mods=(), unaware=()):
    """Run it over three clients; those that are unaware do not know of private training."""
    client, server, asked = ClientApp(mods=list(mods)), ServerApp(), []

    @client.train()
    def train(message, context):
        asked.append(dict(message.content["dp"]))
        content = RecordDict({"arrays": ArrayRecord({"w": np.ones(2)})})
        content["metrics"] = MetricRecord({"num-examples": 1})
        if context.node_id not in unaware:
            content["dp"] = message.content["dp"]
        return Message(content, reply_to=message)

    @server.main()
    def main(grid, context):
        return strategy.start(grid, ArrayRecord({"w": np.zeros(2)}), num_rounds=rounds)

    result = run_simulation(server, client, 3, "inprocess", seed=1, run_dir=folder)
    return result, asked


def test_the_clients_are_told_the_numbers_and_all_steps_are_counted(tmp_path: Path) -> None:
    result, asked = federate(tmp_path, 2, private())
    numbers = {"noise-multiplier": 1.0, "sampling-rate": 0.1, "steps": STEPS, "max-norm": 0.5}
    assert asked == [numbers] * 6
    assert result.privacy.epsilon == pytest.approx(spent(2))
    assert result.privacy.unit == "record"
    log = [
        entry.data for entry in read_log(tmp_path / "log.jsonl") if entry.event == "privacy_spent"
    ]
    assert [entry["count"] for entry in log] == [STEPS, STEPS]


def test_the_run_ends_before_the_round_that_exceeds_the_budget(tmp_path: Path) -> None:
    result, asked = federate(tmp_path, 9, private((spent(3) + spent(4)) / 2))
    assert len(asked) == 3 * 3
    assert result.stopped_early
    assert result.privacy.epsilon == pytest.approx(spent(3))


def test_a_client_that_does_not_say_that_it_trained_privately_is_left_out(tmp_path: Path) -> None:
    result, _ = federate(tmp_path, 1, private(), unaware=[1])
    assert [failure.node_id for failure in result.failures] == [1]
    assert "does not say" in result.failures[0].message


def test_under_secure_aggregation_the_client_itself_says_so(tmp_path: Path) -> None:
    options = {"weight_max": 1, "minimum_cohort": 2, "threshold": 2}
    strategy = with_secagg(private(), **options)
    mods = [secagg_mod(minimum_cohort=2)]
    result, asked = federate(tmp_path, 1, strategy, mods, unaware=[1])
    assert [failure.node_id for failure in result.failures] == [1]
    assert "does not say" in result.failures[0].message
    assert len(asked) == 3
    np.testing.assert_allclose(result.arrays["w"].view(), 1.0, atol=1e-6)
    assert result.privacy.unit == "record"


@pytest.mark.parametrize("name", ["noise_multiplier", "steps", "max_norm", "sampling_rate"])
def test_a_number_out_of_its_range_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        with_example_dp(FedAvg(), **NUMBERS | {name: float("nan")}, delta=1e-5)
