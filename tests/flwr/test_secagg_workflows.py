"""SecAgg and SecAgg+ in the older API, as apps of Flower use them."""

from __future__ import annotations

import math
from typing import Any

import dp_accounting.pld  # noqa: F401 - takes a second to load, and no test is to pay for it
import numpy as np
import pytest

import umbel
from umbel import flwr as fl
from umbel.base import ConfigError, UsageError

old = fl.server.strategy
mods = fl.client.mod
work = fl.server.workflow
STEPS = np.array([[0.5, -1.0], [0.25, 2.0], [0.0, 0.0], [-3.0, 4.0], [1.0, 1.0]])


class Client(fl.client.NumPyClient):  # type: ignore[misc,name-defined]
    """Adds its step to the model; its weight is its number plus one, or what is told."""

    def __init__(self, number: int, how: dict[str, Any]) -> None:
        self.number, self.how = number, how

    def get_parameters(self, config: Any) -> Any:
        return [np.full(2, 20.0), np.array(7)]

    def fit(self, parameters: Any, config: Any) -> Any:
        if self.number in self.how.get("failing", ()):
            raise OSError("the disk is full")
        parameters[0] += self.how.get("scale", 1.0) * STEPS[self.number]
        weight = self.how.get("weight", self.number + 1)
        return parameters, weight, {"loss": float(self.number), "name": "a client"}

    def evaluate(self, parameters: Any, config: Any) -> Any:
        return float(parameters[0][0]), 1, {}


def weighted(metrics: Any) -> dict[str, Any]:
    total = sum(count for count, _ in metrics)
    return {"loss": sum(count * m["loss"] for count, m in metrics) / total}


class Watching(old.FedAvg):  # type: ignore[misc,name-defined]
    def __init__(self, **options: Any) -> None:
        super().__init__(fit_metrics_aggregation_fn=weighted, **options)
        self.seen: list[Any] = []

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        self.seen.append((results, failures))
        return super().aggregate_fit(server_round, results, failures)


def run(
    workflow: Any,
    strategy: Any = None,
    rounds: int = 1,
    client_mods: Any = (mods.secaggplus_mod,),
    nodes: int = 5,
    evaluate: Any = None,
    **how: Any,
) -> Any:
    """Return the history, the models of all rounds, and the promise of the run."""
    models: list[Any] = []
    promises: list[Any] = []

    def on_server(server_round: int, parameters: Any, config: Any) -> Any:
        models.append(parameters[0])
        return 0.0, {}

    strategy = strategy if strategy is not None else Watching()
    getattr(strategy, "strategy", strategy).evaluate_fn = on_server
    server = fl.serverapp.ServerApp()

    @server.main()
    def main(grid: Any, context: Any) -> Any:
        config = fl.server.ServerConfig(num_rounds=rounds)
        legacy = fl.server.LegacyContext(context=context, config=config, strategy=strategy)
        work.DefaultWorkflow(fit_workflow=workflow, evaluate_workflow=evaluate)(grid, legacy)
        promises.append(grid.run.result.privacy)
        return legacy.history

    def client_fn(context: Any) -> Any:
        return Client(context.node_config["partition-id"], how).to_client()

    app = fl.client.ClientApp(client_fn=client_fn, mods=list(client_mods))
    history = umbel.run_simulation(server, app, nodes, backend_name="inprocess", seed=1)
    return history, models, promises[0]


@pytest.mark.parametrize(
    "workflow",
    [
        work.SecAggWorkflow(0.6),
        work.SecAggWorkflow(reconstruction_threshold=3),
        work.SecAggPlusWorkflow(3, 2),
        work.SecAggPlusWorkflow(num_shares=0.5, reconstruction_threshold=0.7, timeout=60.0),
        work.SecAggPlusWorkflow(num_shares=1.0, reconstruction_threshold=0.6, max_weight=15),
    ],
    ids=lambda workflow: f"{workflow.num_shares}, {workflow.reconstruction_threshold}",
)
def test_the_mean_is_the_weighted_one(workflow: Any) -> None:
    strategy = Watching()
    history, models, _ = run(workflow, strategy, rounds=2)
    step = np.average(STEPS, axis=0, weights=[1, 2, 3, 4, 5])
    np.testing.assert_allclose(models, [[20, 20], 20 + step, 20 + 2 * step], atol=2e-4)
    # Nobody's own model, weight or metric has come to the server.
    [[results, failures], _] = strategy.seen
    told = [fl.common.parameters_to_ndarrays(answer.parameters) for _, answer in results]
    [only] = {tuple(arrays[0]) for arrays in told}
    np.testing.assert_allclose(only, models[1], rtol=1e-12)
    assert {(answer.num_examples, str(answer.metrics)) for _, answer in results} == {(3, "{}")}
    assert failures == []
    assert history.metrics_distributed_fit == {}
    assert [server_round for server_round, _ in history.losses_distributed] == [1, 2]


def test_metrics_that_are_named_are_taken_along() -> None:
    workflow = work.SecAggWorkflow(0.6, metrics={"loss": 10.0})
    history, _, _ = run(workflow, rounds=2)
    expected = np.average(range(5), weights=[1, 2, 3, 4, 5])
    for _, loss in history.metrics_distributed_fit["loss"]:
        assert loss == pytest.approx(expected, abs=1e-3)


def test_metrics_that_stay_are_said(caplog: pytest.LogCaptureFixture) -> None:
    fl.common.logger.logger.propagate = True
    strategy = Watching()
    run(work.SecAggWorkflow(0.6), strategy, rounds=2)
    said = [r for r in caplog.records if "fit_metrics_aggregation_fn is not called" in r.message]
    assert len(said) == 1
    assert strategy.fit_metrics_aggregation_fn is weighted


@pytest.mark.parametrize("number", range(5))
def test_a_client_that_fails_has_dropped_out(number: int) -> None:
    strategy = Watching()
    _, models, _ = run(work.SecAggPlusWorkflow(1.0, 0.6), strategy, failing=(number,))
    left = [n for n in range(5) if n != number]
    step = np.average(STEPS[left], axis=0, weights=[n + 1 for n in left])
    np.testing.assert_allclose(models[-1], 20 + step, atol=2e-4)
    [[results, failures]] = strategy.seen
    assert len(results) == 4
    assert failures[0].context["node"] == number


def test_too_few_clients_leave_the_model(caplog: pytest.LogCaptureFixture) -> None:
    fl.common.logger.logger.propagate = True
    _, models, _ = run(work.SecAggWorkflow(0.8), failing=(0, 1, 2))
    assert models[-1].tolist() == [20, 20]
    assert "round 1 keeps the model" in caplog.text


@pytest.mark.parametrize(("how", "kind"), [({"scale": 3.0}, "clip"), ({"weight": 2000}, "weight")])
def test_what_is_out_of_range_is_refused_and_not_cut_off(how: Any, kind: str, caplog: Any) -> None:
    fl.common.logger.logger.propagate = True
    strategy = Watching()
    _, models, _ = run(work.SecAggWorkflow(0.6), strategy, **how)
    if kind == "clip":
        left = [0, 1, 2, 4]
        step = 3 * np.average(STEPS[left], axis=0, weights=[1, 2, 3, 5])
        np.testing.assert_allclose(models[-1], 20 + step, atol=2e-4)
    else:
        assert models[-1].tolist() == [20, 20]
        assert "weight" in caplog.text


def test_without_the_workflow_a_client_gives_nothing_away() -> None:
    strategy = Watching()
    run(None, strategy)
    assert strategy.seen[0][0] == []
    assert "not masked" in str(strategy.seen[0][1][0])


def test_without_the_mod_the_server_says_what_is_missing(caplog: Any) -> None:
    fl.common.logger.logger.propagate = True
    run(work.SecAggWorkflow(0.6), client_mods=())
    assert "needs mods=" in caplog.text


def test_a_low_threshold_is_raised_and_said(caplog: Any) -> None:
    fl.common.logger.logger.propagate = True
    _, models, _ = run(work.SecAggWorkflow(0.3), rounds=2)
    step = np.average(STEPS, axis=0, weights=[1, 2, 3, 4, 5])
    np.testing.assert_allclose(models[1], 20 + step, atol=2e-4)
    said = [r for r in caplog.records if "is raised from 2 to 3 of 5" in r.message]
    assert len(said) == 1


def test_with_differential_privacy_each_client_counts_the_same() -> None:
    private = old.DifferentialPrivacyClientSideFixedClipping(Watching(), 1e-9, 2.0, 5)
    chain = [mods.secaggplus_mod, mods.fixedclipping_mod]
    _, models, promise = run(work.SecAggPlusWorkflow(1.0, 0.6), private, client_mods=chain)
    norms = np.maximum(np.linalg.norm(STEPS, axis=1), 1e-9)
    step = (STEPS * np.minimum(1, 2 / norms)[:, None]).mean(axis=0)
    np.testing.assert_allclose(models[-1], 20 + step, atol=2e-4)
    assert math.isinf(promise.epsilon)  # Watching may do what it likes
    private = old.DifferentialPrivacyClientSideFixedClipping(old.FedAvg(), 2.0, 2.0, 5)
    _, _, promise = run(work.SecAggPlusWorkflow(1.0, 0.6), private, client_mods=chain)
    assert math.isfinite(promise.epsilon)
    assert "clipped by the client" in promise.mechanism


@pytest.mark.parametrize(
    "private",
    [
        old.DifferentialPrivacyServerSideFixedClipping(old.FedAvg(), 1.0, 1.0, 5),
        old.DifferentialPrivacyClientSideAdaptiveClipping(old.FedAvg(), 0.1, 5),
    ],
)
def test_what_looks_at_single_clients_is_refused(private: Any) -> None:
    with pytest.raises(ConfigError, match="looks at single clients"):
        run(work.SecAggWorkflow(0.6), private)


def test_workflows_of_the_apps_own_run_between_rounds() -> None:
    rounds = []

    def fit(grid: Any, context: Any) -> None:
        names = work.constant
        state = context.state
        rounds.append(state.config_records[names.MAIN_CONFIGS_RECORD][names.Key.CURRENT_ROUND])
        arrays = state.array_records[names.MAIN_PARAMS_RECORD].to_numpy_ndarrays()
        new = fl.app.ArrayRecord([arrays[0] + 1, arrays[1]])
        state.array_records[names.MAIN_PARAMS_RECORD] = new
        context.history.add_metrics_distributed_fit(rounds[-1], {"sum": float(arrays[0].sum())})

    def evaluate(grid: Any, context: Any) -> None:
        context.history.add_loss_distributed(rounds[-1], 0.25)

    history, models, _ = run(fit, rounds=2, client_mods=(), evaluate=evaluate)
    assert [model.tolist() for model in models] == [[20, 20], [21, 21], [22, 22]]
    assert history.metrics_distributed_fit == {"sum": [(1, 40.0), (2, 42.0)]}
    assert history.losses_distributed == [(1, 0.25), (2, 0.25)]


def test_numbers_are_as_fine_as_is_asked_for() -> None:
    coarse = work.SecAggWorkflow(0.6, quantization_range=256, modulus_range=1 << 16)
    _, models, _ = run(coarse)
    step = np.average(STEPS, axis=0, weights=[1, 2, 3, 4, 5])
    # Of 1000 a weight is a few steps, so that this is far from exact.
    assert 1e-3 < np.abs(models[-1] - 20 - step).max() < 3.0
    fine = work.SecAggWorkflow(0.6, quantization_range=1 << 31)
    _, models, _ = run(fine)
    np.testing.assert_allclose(models[-1], 20 + step, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: work.SecAggPlusWorkflow(2, 1), "num_shares=2"),
        (lambda: work.SecAggPlusWorkflow(0.0, 0.5), "num_shares=0"),
        (lambda: work.SecAggWorkflow(0), "reconstruction_threshold=0"),
        (lambda: work.SecAggWorkflow(0.6, modulus_range=1000), "power of two"),
        (lambda: work.SecAggWorkflow(0.6, quantization_range=1 << 32), "power of two"),
        (lambda: work.SecAggWorkflow(0.6, max_weight=0.0), "weight"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()


def test_a_workflow_wants_a_legacy_context() -> None:
    with pytest.raises(UsageError, match="LegacyContext"):
        work.DefaultWorkflow()(None, None)
