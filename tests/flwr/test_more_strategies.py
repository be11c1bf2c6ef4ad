"""Older forms of Krum, q-FedAvg and the XGBoost strategies, and all names of both APIs at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

import umbel
from umbel import flwr as fl
from umbel.base import ConfigError
from umbel.flwr.instructions import OK, FitRes
from umbel.records import ArrayRecord, Context, Message, MetricRecord, RecordDict
from umbel.updates import KrumRule

Parameters = fl.common.Parameters
to_parameters = fl.common.ndarrays_to_parameters
to_ndarrays = fl.common.parameters_to_ndarrays
old = fl.server.strategy
VALUES = [0.0, 1.0, 3.0, 4.0, 90.0]


class Proxy:
    cid = "a"


def fitted(strategy: Any, metrics: dict[str, Any] | None = None) -> float:
    """Return what a strategy makes of five models, from a model of zero."""
    strategy._model = to_parameters([np.zeros(1)]).to_record()
    results = [
        (Proxy(), FitRes(OK, to_parameters([np.full(1, value)]), 1 + place, metrics or {}))
        for place, value in enumerate(VALUES)
    ]
    parameters, _ = strategy.aggregate_fit(1, results, [])
    return float(to_ndarrays(parameters)[0][0])


def test_older_krum_keeps_one_model_or_the_mean_of_some() -> None:
    # Scores without malicious clients, by the 3 nearest: 26, 14, 14, 26, and far.
    assert fitted(old.Krum()) == fitted(old.Krum(num_clients_to_keep=1)) in (1.0, 3.0)
    two = fitted(old.Krum(num_malicious_clients=0, num_clients_to_keep=2))
    assert two == pytest.approx((2 * 1 + 3 * 3) / 5)
    strategy = old.Krum(num_malicious_clients=1, num_clients_to_keep=2, min_fit_clients=5)
    assert strategy._rule.rule == KrumRule(1, 2)
    assert (strategy.num_malicious_clients, strategy.num_clients_to_keep) == (1, 2)


def test_older_qfedavg_steps_with_the_loss_of_the_server_or_of_the_clients() -> None:
    q, rate = 0.5, 0.1

    def step(losses: Any) -> float:
        losses, updates = np.asarray(losses) + 1e-10, -np.array(VALUES) / rate
        hs = q * losses ** (q - 1) * updates**2 + losses**q / rate
        return float(-(losses**q * updates).sum() / hs.sum())

    def evaluate(server_round: int, parameters: Any, config: Any) -> Any:
        assert parameters[0].tolist() == [0.0]
        return 2.0, {}

    central = old.QFedAvg(q_param=q, qffl_learning_rate=rate, evaluate_fn=evaluate)
    assert fitted(central, {"train_loss": 9.0}) == pytest.approx(step([2.0] * 5))
    of_clients = old.QFedAvg(q_param=q, qffl_learning_rate=rate)
    assert fitted(of_clients, {"train_loss": 0.5}) == pytest.approx(step([0.5] * 5))
    with pytest.raises(ConfigError, match="weights clients by their loss, and there is none"):
        fitted(of_clients)
    assert old.QFedAvg().min_fit_clients == 1


def test_older_fedopt_is_a_base_that_averages() -> None:
    initial = to_parameters([np.zeros(1)])
    strategy = old.FedOpt(initial_parameters=initial, eta=0.5, tau=1e-3)
    assert (strategy.eta, strategy.eta_l, strategy.tau) == (0.5, 0.1, 1e-3)
    assert fitted(strategy) == pytest.approx(np.average(VALUES, weights=[1, 2, 3, 4, 5]))


DATA = np.random.default_rng(2).normal(size=(60, 3)).astype(np.float32)
LABELS = (DATA[:, 0] > DATA[:, 1]).astype(int)
TREES = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1, "base_score": 0.5}


def data(number: int) -> Any:
    return xgboost.DMatrix(DATA[number::3], LABELS[number::3], nthread=1)


def grown(raw: bytes, number: int, *, whole: bool) -> bytes:
    """Return the model with one tree more, or that tree alone."""
    start = None
    if raw:
        start = xgboost.Booster({"nthread": 1})
        start.load_model(bytearray(raw))
    booster = xgboost.train(TREES, data(number), 1, xgb_model=start)
    if not whole:
        booster = booster[booster.num_boosted_rounds() - 1 :]
    return bytes(booster.save_raw("json"))


class TreeClient(fl.client.Client):
    """Replies with bytes, as apps of Flower's older API do with XGBoost."""

    def __init__(self, number: int, whole: bool) -> None:
        self.number, self.whole = number, whole

    def fit(self, ins: Any) -> Any:
        before = ins.parameters.tensors[0] if ins.parameters.tensors else b""
        model = grown(before, self.number, whole=self.whole)
        return fl.common.FitRes(
            status=fl.common.Status(fl.common.Code.OK, "OK"),
            parameters=Parameters(tensor_type="", tensors=[model]),
            num_examples=20,
            metrics={},
        )

    def evaluate(self, ins: Any) -> Any:
        return fl.common.EvaluateRes(
            status=fl.common.Status(fl.common.Code.OK, "OK"),
            loss=0.0,
            num_examples=20,
            metrics={"number": self.number},
        )


def old_run(strategy: Any, whole: bool) -> Any:
    parts = fl.server.ServerAppComponents(
        config=fl.server.ServerConfig(num_rounds=2), strategy=strategy
    )
    server = fl.server.ServerApp(server_fn=lambda context: parts)
    client = fl.client.ClientApp(
        client_fn=lambda context: TreeClient(context.node_config["partition-id"], whole)
    )
    return umbel.run_simulation(server, client, 3, backend_name="inprocess", seed=3)


def test_older_xgboost_strategies_hand_bytes_on() -> None:
    seen = []

    def evaluate(server_round: int, parameters: Any, config: Any) -> Any:
        seen.append(parameters.tensors[0] if parameters.tensors else b"")
        return float(server_round), {"bytes": len(seen[-1])}

    empty = Parameters(tensor_type="", tensors=[])
    options: dict[str, Any] = {"initial_parameters": empty, "fraction_evaluate": 1.0}
    history = old_run(old.FedXgbBagging(evaluate_function=evaluate, **options), whole=False)
    assert history.losses_centralized == [(0, 0.0), (1, 1.0), (2, 2.0)]
    booster = xgboost.Booster()
    booster.load_model(bytearray(seen[-1]))
    assert booster.num_boosted_rounds() == 6

    told: list[Any] = []

    class Watching(old.FedXgbCyclic):  # type: ignore[name-defined,misc]
        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            told.extend(answer.parameters.tensors[0] for _, answer in results)
            return super().aggregate_fit(server_round, results, failures)

    history = old_run(Watching(**options), whole=True)
    assert told == [grown(b"", 0, whole=True), grown(grown(b"", 0, whole=True), 1, whole=True)]
    assert [loss for _, loss in history.losses_distributed] == [0.0, 0.0]


def test_message_xgboost_strategies_take_flowers_arguments(federate: Any) -> None:
    new = fl.serverapp.strategy

    def client(message: Message, context: Context) -> RecordDict:
        metrics = MetricRecord({"num-examples": 20})
        if message.metadata.message_type == "evaluate":
            return RecordDict({"metrics": metrics})
        before = message.content["arrays"]["0"].numpy().tobytes()
        model = np.frombuffer(grown(before, context.node_id % 3, whole=False), np.uint8)
        return RecordDict({"arrays": ArrayRecord([model]), "metrics": metrics})

    empty = ArrayRecord([np.frombuffer(b"", dtype=np.uint8)])
    strategy = new.FedXgbBagging(fraction_train=1.0, fraction_evaluate=0.5, min_train_nodes=2)
    result = federate(strategy, client, initial=empty, num_rounds=2)
    booster = xgboost.Booster()
    booster.load_model(bytearray(result.arrays["0"].numpy().tobytes()))
    assert booster.num_boosted_rounds() == 8
    cyclic = new.FedXgbCyclic(fraction_train=1.0, fraction_evaluate=0.0)
    assert federate(cyclic, client, initial=empty, num_rounds=2).failures == []


@pytest.mark.slow
def test_all_names_of_both_apis_come_with_a_star(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    script = tmp_path / "star.py"
    script.write_text(
        "from flwr.serverapp.strategy import *\n"
        "print(FedXgbBagging(fraction_train=0.5).summary(), MultiKrum, Strategy, Result)\n"
        "from flwr.server.strategy import *\n"
        "from flwr.server.strategy.aggregate import *\n"
        "print(Krum(num_clients_to_keep=2), aggregate_qffl)\n"
        "try:\n"
        "    from flwr.server.strategy import FedXgbNnAvg\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "umbel.flwr", str(script)],
        env={**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "FedXgbBagging(fraction_train=0.5" in done.stdout
    assert "FedXgbBagging and FedXgbCyclic are here" in done.stdout
