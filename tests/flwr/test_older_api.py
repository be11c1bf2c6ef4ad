"""The older API, with its own loop, over Umbel's grid."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import umbel
from umbel import flwr as fl
from umbel.base import AggregationError, ConfigError, RecordError, UsageError
from umbel.flwr.instructions import OK, FitRes, pack, unpack
from umbel.strategies import FedAdam

FitIns, Parameters = fl.common.FitIns, fl.common.Parameters
to_parameters = fl.common.ndarrays_to_parameters
to_ndarrays = fl.common.parameters_to_ndarrays


class Client(fl.client.NumPyClient):
    """Adds its number plus one; number 3 fails."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_parameters(self, config: Any) -> Any:
        return [np.full(2, 10.0)]

    def fit(self, parameters: Any, config: Any) -> Any:
        if self.number == 3:
            raise ValueError("no data")
        return [p + self.number + 1 for p in parameters], self.number + 1, {"mu": config["mu"]}

    def evaluate(self, parameters: Any, config: Any) -> Any:
        return float(parameters[0].sum()), 1, {}


def run(strategy: Any, nodes: int = 4, rounds: int = 1, client_fn: Any = None, **parts: Any) -> Any:
    config = fl.server.ServerConfig(num_rounds=rounds)
    components = fl.server.ServerAppComponents(config=config, strategy=strategy, **parts)
    server = fl.server.ServerApp(server_fn=lambda context: components)
    make = client_fn or (lambda context: Client(context.node_config["partition-id"]).to_client())
    client = fl.client.ClientApp(client_fn=make)
    return umbel.run_simulation(server, client, nodes, backend_name="inprocess", seed=3)


def config(server_round: int) -> dict[str, Any]:
    return {"mu": 0.5}


def test_a_model_that_is_not_finite_ends_the_run() -> None:
    class Dividing(fl.server.strategy.FedAvg):
        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            return to_parameters([np.array([1.0, np.nan])]), {}

    with pytest.raises(AggregationError, match="NaN or infinity") as caught:
        run(Dividing(on_fit_config_fn=config))
    assert caught.value.context == {"round": 1, "key": "0"}


def test_a_round_averages_what_came_and_tells_what_failed() -> None:
    seen: dict[str, Any] = {}

    class Watching(fl.server.strategy.FedAvg):
        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            seen.update(failures=failures, metrics=[answer.metrics for _, answer in results])
            return super().aggregate_fit(server_round, results, failures)

    central: list[tuple[int, float]] = []

    def evaluate(server_round: int, parameters: Any, config: Any) -> Any:
        central.append((server_round, float(parameters[0][0])))
        return central[-1][1], {"first": central[-1][1]}

    history = run(Watching(on_fit_config_fn=config, evaluate_fn=evaluate))
    # One client gave the first model; (1*1 + 2*2 + 3*3) / 6 = 14/6 was added to it.
    assert central == [(0, 10.0), (1, pytest.approx(10 + 14 / 6))]
    assert history.losses_distributed == [(1, pytest.approx(2 * (10 + 14 / 6)))]
    assert history.metrics_centralized["first"] == central
    assert "no data" in str(seen["failures"][0])
    assert seen["metrics"] == [{"mu": 0.5}] * 3


def test_no_failure_is_accepted_when_the_strategy_says_so() -> None:
    strategy = fl.server.strategy.FedAvg(on_fit_config_fn=config, accept_failures=False)
    assert run(strategy).losses_distributed == [(1, 20.0)]


def test_a_fault_tolerant_strategy_looks_at_the_part_that_came() -> None:
    kind = fl.server.strategy.FaultTolerantFedAvg
    strict = kind(on_fit_config_fn=config, min_completion_rate_fit=0.9)
    assert run(strict).losses_distributed == [(1, 20.0)]
    assert run(kind(on_fit_config_fn=config)).losses_distributed[0][1] > 20


def test_a_client_function_may_take_a_name() -> None:
    strategy = fl.server.strategy.FedAvg(on_fit_config_fn=config)
    history = run(strategy, client_fn=lambda cid: Client(int(cid)))
    assert history.losses_distributed == [(1, pytest.approx(2 * (10 + 14 / 6)))]


def test_fedprox_tells_clients_its_mu_and_fedadam_is_umbels() -> None:
    strategy = fl.server.strategy.FedProx(proximal_mu=0.1)
    manager = fl.server.SimpleClientManager()
    for name in "abc":
        manager.register(Proxy(name))
    chosen = strategy.configure_fit(1, to_parameters([np.zeros(1)]), manager)
    assert [ins.config for _, ins in chosen] == [{"proximal_mu": 0.1}] * 3

    initial = to_parameters([np.zeros(2, np.float32)])
    adam = fl.server.strategy.FedAdam(initial_parameters=initial, eta=0.5, eta_l=0.1)
    answer = FitRes(OK, to_parameters([np.ones(2, np.float32)]), 4, {})
    parameters, _ = adam.aggregate_fit(1, [(Proxy("a"), answer)], [])
    assert isinstance(adam._rule, FedAdam)
    assert not np.array_equal(to_ndarrays(parameters)[0], np.ones(2))
    with pytest.raises(ConfigError, match="needs initial_parameters"):
        fl.server.strategy.FedAdam()


class Proxy(fl.server.client_proxy.ClientProxy):
    """A client that is not a node of a grid."""

    def get_properties(self, ins: Any, timeout: Any, group_id: Any) -> Any: ...
    def get_parameters(self, ins: Any, timeout: Any, group_id: Any) -> Any: ...
    def evaluate(self, ins: Any, timeout: Any, group_id: Any) -> Any: ...
    def reconnect(self, ins: Any, timeout: Any, group_id: Any) -> Any: ...

    def fit(self, ins: Any, timeout: Any, group_id: Any) -> Any:
        return FitRes(OK, ins.parameters, 1, {})


def test_proxies_of_the_apps_own_are_asked_one_by_one() -> None:
    ins = FitIns(to_parameters([np.ones(1)]), {})
    results, failures = fl.server.server.fit_clients([(Proxy("a"), ins)], None, None, 1)
    assert len(results) == 1
    assert not failures


def test_a_manager_draws_with_the_module_random_and_heeds_a_criterion() -> None:
    manager = fl.server.SimpleClientManager()
    for number in range(20):
        assert manager.register(Proxy(str(number)))
    assert not manager.register(Proxy("3"))

    class Even(fl.server.criterion.Criterion):
        def select(self, client: Any) -> bool:
            return int(client.cid) % 2 == 0

    state = random.getstate()
    random.seed(5)
    one = [client.cid for client in manager.sample(5, criterion=Even())]
    random.seed(5)
    assert one == random.sample([str(n) for n in range(0, 20, 2)], 5)
    random.setstate(state)
    assert manager.sample(21) == []


def test_parameters_are_serialised_only_when_asked_for() -> None:
    arrays = [np.arange(3.0), np.float32(2).reshape(())]
    parameters = to_parameters(arrays)
    again = Parameters([fl.common.ndarray_to_bytes(a) for a in arrays], "numpy.ndarray")
    assert parameters == again
    for one, other in zip(to_ndarrays(again), arrays, strict=True):
        assert np.array_equal(one, other)
        one += 1  # the caller's own
    own = Parameters([b"abc", b""], "mine")
    assert unpack(pack(FitIns(own, {"k": 1})), FitIns) == FitIns(own, {"k": 1})
    with pytest.raises(RecordError, match="'mine' are no NumPy arrays"):
        to_ndarrays(own)


def test_a_server_app_is_of_one_api() -> None:
    parts = fl.server.ServerConfig()
    with pytest.raises(UsageError, match="both given"):
        fl.server.ServerApp(config=parts, server_fn=lambda context: None)
    with pytest.raises(UsageError, match="has a main function already"):
        fl.server.ServerApp(config=parts).main()(lambda grid, context: None)


def test_a_workflow_runs_the_rounds() -> None:
    app = fl.serverapp.ServerApp()

    @app.main()
    def main(grid: Any, context: Any) -> Any:
        strategy = fl.server.strategy.FedAvg(on_fit_config_fn=config)
        legacy = fl.server.LegacyContext(context=context, strategy=strategy)
        fl.server.workflow.DefaultWorkflow()(grid, legacy)
        return legacy.history.losses_distributed

    client = fl.client.ClientApp(client_fn=lambda context: Client(context.node_id))
    losses = umbel.run_simulation(app, client, 3, backend_name="inprocess", seed=1)
    assert losses == [(1, pytest.approx(2 * (10 + 14 / 6)))]
