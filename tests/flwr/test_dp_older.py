"""Flower's wrappers and mods for differential privacy in the older API."""

from __future__ import annotations

import math
from typing import Any

import dp_accounting.pld  # noqa: F401 - takes a second to load, and no test is to pay for it
import numpy as np
import pytest

import umbel
from umbel import flwr as fl
from umbel.base import ConfigError
from umbel.privacy import GaussianEvent, PldAccountant

old = fl.server.strategy
mods = fl.client.mod
DPFedAvgNumPyClient = fl.client.dpfedavg_numpy_client.DPFedAvgNumPyClient
STEPS = np.array([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0], [-6.0, 8.0]])
"""What each of four clients adds to the model; their norms are 5, 1, 0 and 10."""
HARDLY = 1e-9


class Client(fl.client.NumPyClient):  # type: ignore[misc,name-defined]
    """Adds its step to the model in place, as many clients do; some fail."""

    def __init__(self, number: int, steps: Any, failing: tuple[int, ...]) -> None:
        self.number, self.steps, self.failing = number, steps, failing

    def get_parameters(self, config: Any) -> Any:
        return [np.zeros(self.steps.shape[1])]

    def fit(self, parameters: Any, config: Any) -> Any:
        if self.number in self.failing:
            raise OSError("the disk is full")
        parameters[0] += self.steps[self.number]
        return parameters, self.number + 1, {"number": self.number}

    def evaluate(self, parameters: Any, config: Any) -> Any:
        return float(np.abs(parameters[0]).sum()), 1, {}


def run(
    strategy: Any,
    steps: Any = STEPS,
    client_mods: Any = (),
    failing: tuple[int, ...] = (),
    rounds: int = 1,
    wrap: Any = lambda client: client,
) -> Any:
    """Return the model after some rounds, and the promise of the run."""
    models: list[Any] = []

    def evaluate(server_round: int, parameters: Any, config: Any) -> Any:
        models.append(parameters[0])
        return 0.0, {}

    inner = strategy.strategy
    inner.evaluate_fn = evaluate
    promises: list[Any] = []

    class Server(fl.server.Server):  # type: ignore[misc,name-defined]
        def fit(self, num_rounds: int, timeout: Any) -> Any:
            done = super().fit(num_rounds, timeout)
            promises.append(self.run.result.privacy)
            return done

    def server_fn(context: Any) -> Any:
        manager = fl.server.SimpleClientManager()
        return fl.server.ServerAppComponents(
            server=Server(client_manager=manager, strategy=strategy),
            config=fl.server.ServerConfig(num_rounds=rounds),
        )

    def client_fn(context: Any) -> Any:
        client = Client(context.node_config["partition-id"], steps, failing)
        return wrap(client).to_client()

    app = fl.client.ClientApp(client_fn=client_fn, mods=list(client_mods))
    server = fl.server.ServerApp(server_fn=server_fn)
    umbel.run_simulation(server, app, len(steps), backend_name="inprocess", seed=3)
    return models[-1], promises[-1]


def clipped_mean(bound: float, steps: Any = STEPS, count: int = 4) -> Any:
    norms = np.maximum(np.linalg.norm(steps, axis=1), 1e-300)
    return (steps * np.minimum(1, bound / norms)[:, None]).sum(axis=0) / count


class Saving(old.FedAvg):  # type: ignore[misc,name-defined]
    """Overrides aggregate_fit, as apps do to save the model."""

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        self.numbers = sorted(answer.metrics["number"] for _, answer in results)
        return super().aggregate_fit(server_round, results, failures)


FIXED = {
    "server": (old.DifferentialPrivacyServerSideFixedClipping, [], None),
    "client": (old.DifferentialPrivacyClientSideFixedClipping, [mods.fixedclipping_mod], None),
    "dpfedavg": (
        lambda strategy, noise, bound, count: old.DPFedAvgFixed(strategy, count, bound, noise),
        [],
        DPFedAvgNumPyClient,
    ),
}


@pytest.mark.parametrize("kind", FIXED)
@pytest.mark.parametrize("inner", [old.FedAvg, Saving])
@pytest.mark.parametrize("noise", [0.0, 1e-9])
@pytest.mark.parametrize("failing", [(), (3,)])
def test_fixed_clipping_is_the_rule_by_hand(
    kind: str, inner: Any, noise: float, failing: tuple[int, ...]
) -> None:
    make, used, wrap = FIXED[kind]
    strategy = make(inner(), noise, 2.0, 4)
    model, _ = run(strategy, STEPS, used, failing, wrap=wrap or (lambda client: client))
    # What is accounted for is divided by those asked, so that those that fail do not show.
    accounted = inner is old.FedAvg and noise > 0
    count = 4 if accounted or not failing else 3
    np.testing.assert_allclose(
        model, clipped_mean(2.0, STEPS[: 4 - len(failing)], count), atol=1e-7
    )


@pytest.mark.parametrize("kind", FIXED)
def test_the_promise_is_that_of_the_mechanism(kind: str) -> None:
    make, used, wrap = FIXED[kind]
    wrap = wrap or (lambda client: client)
    _, promise = run(make(old.FedAvg(), 2.0, 1.0, 4), client_mods=used, wrap=wrap, rounds=2)
    expected = PldAccountant("zero-out").compose(GaussianEvent(2.0), 2).epsilon(1e-5)
    assert promise.epsilon == pytest.approx(expected)
    _, promise = run(make(Saving(), 2.0, 1.0, 4), client_mods=used, wrap=wrap)
    assert math.isinf(promise.epsilon)


@pytest.mark.parametrize("inner", [old.FedAvg, Saving])
def test_the_noise_has_the_size_that_is_said(inner: Any) -> None:
    strategy = old.DifferentialPrivacyServerSideFixedClipping(inner(), 1.5, 2.0, 4)
    model, _ = run(strategy, np.zeros((4, 20_000)))
    assert model.std() == pytest.approx(1.5 * 2.0 / 4, rel=0.04)


def test_clients_may_add_the_noise_and_it_is_added_once() -> None:
    strategy = old.DPFedAvgFixed(old.FedAvg(), 4, 2.0, 1.5, server_side_noising=False)
    model, promise = run(strategy, np.zeros((4, 20_000)), wrap=DPFedAvgNumPyClient)
    assert model.std() == pytest.approx(1.5 * 2.0 / 4, rel=0.04)
    assert math.isinf(promise.epsilon)
    assert promise.noise_added_at == "client"


ADAPTIVE = {
    "server": (old.DifferentialPrivacyServerSideAdaptiveClipping, [], None),
    "client": (
        old.DifferentialPrivacyClientSideAdaptiveClipping,
        [mods.adaptiveclipping_mod],
        None,
    ),
    "dpfedavg": (
        lambda strategy, noise, count, bound: old.DPFedAvgAdaptive(strategy, count, bound, noise),
        [],
        DPFedAvgNumPyClient,
    ),
    "dpfedavg, clients": (
        lambda strategy, noise, count, bound: old.DPFedAvgAdaptive(
            strategy, count, bound, noise, server_side_noising=False
        ),
        [],
        DPFedAvgNumPyClient,
    ),
}


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("inner", [old.FedAvg, Saving])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_bound_rises_when_all_were_clipped_and_falls_when_none_was(
    kind: str, inner: Any, noise: float
) -> None:
    make, used, wrap = ADAPTIVE[kind]
    steps = np.tile([3.0, 4.0], (8, 1))
    for bound, factor in ((0.1, math.exp(0.1)), (100.0, math.exp(-0.1))):
        strategy = make(inner(), noise, 8, bound)
        run(strategy, steps, used, wrap=wrap or (lambda client: client))
        expected = pytest.approx(bound * factor, rel=0.08 if noise else 1e-9)
        assert strategy.clipping_norm == expected


def test_a_client_that_tells_no_bit_is_left_out_and_said(caplog: Any) -> None:
    fl.common.logger.logger.propagate = True
    for inner in (old.FedAvg(), Saving()):
        strategy = old.DifferentialPrivacyClientSideAdaptiveClipping(inner, 0.1, 8)
        model, _ = run(strategy)
        assert model.tolist() == [0, 0]
    assert "adaptiveclipping_mod" in caplog.text


def test_without_its_wrapper_a_client_says_what_is_missing(caplog: Any) -> None:
    class Plain(old.FedAvg):  # type: ignore[misc,name-defined]
        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            self.failures = [str(failure) for failure in failures]
            return super().aggregate_fit(server_round, results, failures)

    plain = Plain()
    run(
        old.DifferentialPrivacyServerSideFixedClipping(plain, 1.0, 1.0, 4), wrap=DPFedAvgNumPyClient
    )
    assert "tells no 'dpfedavg_clip_norm'" in plain.failures[0]
    plain = Plain()
    strategy = old.DifferentialPrivacyServerSideFixedClipping(plain, 1.0, 1.0, 4)
    run(strategy, client_mods=[mods.fixedclipping_mod])
    assert "tells no 'clipping_norm'" in plain.failures[0]


def test_other_strategies_are_wrapped_too() -> None:
    initial = fl.common.ndarrays_to_parameters([np.zeros(2)])
    adam = old.FedAdam(initial_parameters=initial, eta=0.1)
    _, promise = run(old.DifferentialPrivacyServerSideFixedClipping(adam, 1.0, 2.0, 4))
    assert math.isfinite(promise.epsilon)
    median = old.DifferentialPrivacyServerSideFixedClipping(old.FedMedian(), HARDLY, 2.0, 4)
    model, promise = run(median)
    np.testing.assert_allclose(model, [0.3, 1.2], atol=1e-8)
    assert math.isinf(promise.epsilon)


def test_local_noise_in_the_older_api() -> None:
    mod = mods.LocalDpMod(clipping_norm=1.0, sensitivity=2.0, epsilon=8.0, delta=1e-5)

    strategy = old.DifferentialPrivacyServerSideFixedClipping(old.FedAvg(), HARDLY, 1e6, 4)
    model, _ = run(strategy, np.zeros((4, 20_000)), [mod])
    assert model.std() == pytest.approx(mod.noise_std / 2, rel=0.04)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="noise_multiplier is not negative"):
        old.DPFedAvgFixed(old.FedAvg(), 4, 1.0, -1.0)
    with pytest.raises(ConfigError, match="the noise multiplier 1 allows"):
        old.DPFedAvgAdaptive(old.FedAvg(), 4)


def test_helpers_do_what_they_are_called_for() -> None:
    helpers = fl.common.differential_privacy
    after, before = [np.array([3.0, 4.0]), np.array([7])], [np.zeros(2), np.array([7])]
    assert helpers.compute_adaptive_clip_model_update(after, before, 1.0)
    assert helpers.get_norm(after) == pytest.approx(1.0)
    helpers.compute_clip_model_update(after, after, 1.0)
    helpers.clip_inputs_inplace(after, 0.5)
    assert helpers.get_norm(after) == pytest.approx(0.5)
    zeros = fl.common.ndarrays_to_parameters([np.zeros(20_000, np.float32)])
    noised = helpers.add_gaussian_noise_to_params(zeros, 1.5, 2.0, 4)
    [array] = fl.common.parameters_to_ndarrays(noised)
    assert (array.dtype, array.std()) == (np.float32, pytest.approx(0.75, rel=0.04))
    constants = fl.common.differential_privacy_constants
    assert (constants.KEY_CLIPPING_NORM, constants.KEY_NORM_BIT) == ("clipping_norm", "norm_bit")
