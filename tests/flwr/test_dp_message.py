"""Flower's wrappers, mods and accountant for differential privacy in the Message API."""

from __future__ import annotations

import math
from typing import Any

import dp_accounting.pld
import dp_accounting.rdp  # noqa: F401 - takes a second to load, and no test is to pay for it
import numpy as np
import pytest

import umbel
from umbel import flwr as fl
from umbel.base import ConfigError
from umbel.privacy import GaussianEvent, PldAccountant
from umbel.records import ArrayRecord, Context, Message, MetricRecord, RecordDict
from umbel.serverapp import PoissonSampler
from umbel.updates import KeepReplies

dp = fl.serverapp.strategy
mods = fl.clientapp.mod
FedAvg = dp.FedAvg
SERVER_FIXED = dp.DifferentialPrivacyServerSideFixedClipping
CLIENT_FIXED = dp.DifferentialPrivacyClientSideFixedClipping
SERVER_ADAPTIVE = dp.DifferentialPrivacyServerSideAdaptiveClipping
CLIENT_ADAPTIVE = dp.DifferentialPrivacyClientSideAdaptiveClipping
STEPS = np.array([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0], [-6.0, 8.0]])
"""What each of four clients adds to the model; their norms are 5, 1, 0 and 10."""


def client_app(
    steps: Any = STEPS, client_mods: Any = (), failing: tuple[int, ...] = (), scale: float = 1.0
) -> Any:
    """Return clients as apps of Flower have them; they weigh 1, 2, 3 and 4."""
    app = fl.clientapp.ClientApp(mods=list(client_mods))

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        number = context.node_config["partition-id"]
        if number in failing:
            raise OSError("the disk is full")
        [weights] = msg.content["arrays"].to_numpy_ndarrays()
        weights += scale * np.asarray(steps[number], weights.dtype)
        metrics = MetricRecord({"train_loss": float(number), "num-examples": number + 1})
        content = RecordDict({"arrays": ArrayRecord([weights]), "metrics": metrics})
        return Message(content=content, reply_to=msg)

    @app.evaluate()
    def evaluate(msg: Message, context: Context) -> Message:
        metrics = MetricRecord({"eval_loss": 0.5, "num-examples": 1})
        return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)

    return app


def run(
    strategy: Any,
    app: Any = None,
    nodes: int = 4,
    rounds: int = 1,
    size: int = 2,
    backend: str = "inprocess",
    **more: Any,
) -> Any:
    server = fl.serverapp.ServerApp()

    @server.main()
    def main(grid: Any, context: Context) -> Any:
        zeros = ArrayRecord([np.zeros(size, np.float64)])
        return strategy.start(grid=grid, initial_arrays=zeros, num_rounds=rounds, **more)

    return umbel.run_simulation(server, app or client_app(), nodes, backend_name=backend, seed=3)


def model(result: Any) -> Any:
    return result.arrays.to_numpy_ndarrays()[0]


def clipped_mean(bound: float, steps: Any = STEPS, count: int = 4) -> Any:
    norms = np.maximum(np.linalg.norm(steps, axis=1), 1e-300)
    return (steps * np.minimum(1, bound / norms)[:, None]).sum(axis=0) / count


class Median(FedAvg):  # type: ignore[misc,valid-type]
    """Overrides aggregate_train, as apps do, and looks at what it is handed."""

    seen: list[Any]

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        self.seen = list(replies)
        models = [reply.content["arrays"].to_numpy_ndarrays()[0] for reply in self.seen]
        metrics = MetricRecord({"round": server_round})
        return ArrayRecord([np.median(models, axis=0)]), metrics


class Averaging(FedAvg):  # type: ignore[misc,valid-type]
    """Overrides aggregate_train to do the same."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        return super().aggregate_train(server_round, replies)


@pytest.mark.parametrize("kind", [SERVER_FIXED, CLIENT_FIXED])
@pytest.mark.parametrize("inner", [FedAvg, Averaging])
@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_fixed_clipping_is_the_rule_by_hand(kind: Any, inner: Any, noise: float) -> None:
    app = client_app(client_mods=[mods.fixedclipping_mod] if kind is CLIENT_FIXED else [])
    result = run(kind(inner(), noise, 2.0, 4), app)
    np.testing.assert_allclose(model(result), clipped_mean(2.0), atol=1e-8)
    assert result.failures == []
    # Each counts the same, also among the metrics.
    assert dict(result.train_metrics_clientapp[1])["train_loss"] == pytest.approx(1.5)
    assert dict(result.evaluate_metrics_clientapp[1]) == {"eval_loss": 0.5}


def test_the_promise_is_that_of_the_mechanism() -> None:
    result = run(SERVER_FIXED(FedAvg(), 2.0, 1.0, 4), rounds=3)
    expected = PldAccountant("zero-out").compose(GaussianEvent(2.0), 3).epsilon(1e-5)
    assert result.privacy.epsilon == pytest.approx(expected)
    assert "the clients' training metrics" in result.privacy.not_covered


@pytest.mark.parametrize("inner", [FedAvg, Median])
def test_the_noise_has_the_size_that_is_said(inner: Any) -> None:
    still = client_app(np.zeros((4, 50_000)))
    result = run(SERVER_FIXED(inner(), 1.5, 2.0, 4), still, size=50_000)
    assert model(result).std() == pytest.approx(1.5 * 2.0 / 4, rel=0.02)


@pytest.mark.parametrize("kind", [SERVER_FIXED, CLIENT_FIXED])
@pytest.mark.parametrize("inner", [FedAvg, Averaging])
def test_one_client_that_fails_does_not_cost_the_round(kind: Any, inner: Any) -> None:
    used = [mods.fixedclipping_mod] if kind is CLIENT_FIXED else []
    app = client_app(client_mods=used, failing=(3,))
    result = run(kind(inner(), 1e-9, 2.0, 4), app)
    # What averages divides by those asked, so that it does not show how many answered.
    count = 4 if inner is FedAvg else 3
    np.testing.assert_allclose(model(result), clipped_mean(2.0, STEPS[:3], count), atol=1e-8)
    assert [failure.node_id for failure in result.failures] == [3]


def test_a_strategy_that_aggregates_itself_is_handed_clipped_replies() -> None:
    strategy = Median()
    result = run(SERVER_FIXED(strategy, 1e-9, 2.0, 4), client_app(failing=(1,)))
    for reply in strategy.seen:
        node = reply.metadata.src_node_id
        expected = STEPS[node] * min(1, 2 / max(1e-9, np.linalg.norm(STEPS[node])))
        np.testing.assert_allclose(reply.content["arrays"].to_numpy_ndarrays()[0], expected)
    assert {reply.metadata.src_node_id for reply in strategy.seen} == {0, 2, 3}
    weights = [reply.content["metrics"]["num-examples"] for reply in strategy.seen]
    assert weights == [1, 1, 1]
    np.testing.assert_allclose(model(result), [0, 1.6], atol=1e-8)
    assert dict(result.train_metrics_clientapp[1]) == {"round": 1}
    assert math.isinf(result.privacy.epsilon)
    assert "no guarantee" in str(result.privacy)


def test_what_does_not_average_gets_no_epsilon(caplog: pytest.LogCaptureFixture) -> None:
    strategy = SERVER_FIXED(dp.FedMedian(), 1.0, 2.0, 4)
    result = run(strategy)
    assert math.isinf(result.privacy.epsilon)
    assert isinstance(strategy.strategy.train_aggregator(1), KeepReplies)


def test_a_warning_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    fl.common.logger.logger.propagate = True
    run(SERVER_FIXED(Median(), 1.0, 2.0, 4), rounds=2)
    said = [record.getMessage() for record in caplog.records if "no epsilon" in record.message]
    assert said == [
        "updates are clipped, and no epsilon can be given: Median may do anything with what "
        "clients send"
    ]


def test_overrides_of_evaluation_are_kept() -> None:
    class Watching(FedAvg):  # type: ignore[misc,valid-type]
        def aggregate_evaluate(self, server_round: int, replies: Any) -> Any:
            return MetricRecord({"replies": len(list(replies))})

    result = run(SERVER_FIXED(Watching(), 1.0, 2.0, 4))
    assert dict(result.evaluate_metrics_clientapp[1]) == {"replies": 4}
    assert math.isfinite(result.privacy.epsilon)


@pytest.mark.parametrize("kind", [SERVER_ADAPTIVE, CLIENT_ADAPTIVE])
@pytest.mark.parametrize("inner", [FedAvg, Averaging])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_bound_rises_when_all_were_clipped_and_falls_when_none_was(
    kind: Any, inner: Any, noise: float
) -> None:
    nodes = 8
    steps = np.tile([3.0, 4.0], (nodes, 1))
    app = client_app(
        steps, [mods.adaptiveclipping_mod] if kind is CLIENT_ADAPTIVE else [], scale=1.0
    )
    low = kind(inner(), noise, nodes, initial_clipping_norm=0.1, clip_norm_lr=0.2)
    run(low, app, nodes=nodes, rounds=2)
    high = kind(inner(), noise, nodes, initial_clipping_norm=100.0, clip_norm_lr=0.2)
    result = run(high, app, nodes=nodes, rounds=2)
    near = {"rel": 0.15} if noise else {"rel": 1e-6}
    assert low.clipping_norm == pytest.approx(0.1 * math.exp(0.2), **near)
    assert high.clipping_norm == pytest.approx(100 * math.exp(-0.2), **near)
    assert "norm_bit" not in result.train_metrics_clientapp[1]


@pytest.mark.slow
def test_the_bound_comes_to_the_quantile() -> None:
    norms = np.linspace(1.0, 3.0, 20)
    app = client_app(np.stack([norms, 0 * norms], axis=1))
    options = {"initial_clipping_norm": 0.1, "clip_norm_lr": 0.5}
    strategy = SERVER_ADAPTIVE(FedAvg(), 0.0, 20, target_clipped_quantile=0.25, **options)
    run(strategy, app, nodes=20, rounds=60)
    assert strategy.clipping_norm == pytest.approx(2.5, abs=0.15)


def test_the_noise_is_that_for_those_who_are_asked(caplog: pytest.LogCaptureFixture) -> None:
    fl.common.logger.logger.propagate = True
    result = run(SERVER_FIXED(FedAvg(), 1e-9, 2.0, 100), rounds=2)
    expected = 2 * clipped_mean(2.0)
    np.testing.assert_allclose(model(result), expected, atol=1e-7)
    said = [record for record in caplog.records if "num_sampled_clients is 100" in record.message]
    assert len(said) == 1


def test_by_poisson_the_number_expected_stays() -> None:
    inner = FedAvg(train_sampler=PoissonSampler(0.5), min_train_nodes=1)
    strategy = SERVER_FIXED(inner, 1.0, 2.0, 4)
    result = run(strategy)
    assert strategy.inner.cohort == 4
    assert str(result.privacy.sampling).startswith("Poisson")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SERVER_ADAPTIVE, CLIENT_ADAPTIVE])
@pytest.mark.parametrize("inner", [FedAvg, Median])
def test_workers_come_to_the_same_bits(kind: Any, inner: Any) -> None:
    app = client_app(np.tile(STEPS, (2, 1)), [mods.adaptiveclipping_mod])
    if kind is SERVER_ADAPTIVE:
        app = client_app(np.tile(STEPS, (2, 1)))
    models = [
        model(run(kind(inner(), 0.1, 8), app, nodes=8, rounds=2, backend=backend)).tobytes()
        for backend in ("inprocess", "processes")
    ]
    assert models[0] == models[1]


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("inner", [FedAvg, Median])
def test_the_bound_is_part_of_the_state(inner: Any, noise: float) -> None:
    one, other = (SERVER_ADAPTIVE(inner(), noise, 8) for _ in range(2))
    run(one, client_app(np.tile(STEPS, (2, 1))), nodes=8)
    assert one.clipping_norm != 0.1
    other.load_state_dict(one.state_dict())
    assert other.clipping_norm == one.clipping_norm


# Mods


def test_without_its_wrapper_a_mod_says_what_is_missing() -> None:
    result = run(FedAvg(), client_app(client_mods=[mods.fixedclipping_mod]))
    failure = result.failures[0]
    assert "tells no 'clipping_norm'" in failure.message
    assert len(result.failures) == 4
    assert dict(result.evaluate_metrics_clientapp[1]) == {"eval_loss": 0.5}


def test_without_its_mod_an_adaptive_wrapper_says_what_is_missing() -> None:
    for inner in (FedAvg(), Median()):
        result = run(CLIENT_ADAPTIVE(inner, 0.1, 40))
        assert len(result.failures) == 4
        assert "adaptiveclipping_mod" in result.failures[0].message
        assert model(result).tolist() == [0, 0]


def test_local_noise_is_enough_for_its_epsilon() -> None:
    mod = mods.LocalDpMod(clipping_norm=1.0, sensitivity=2.0, epsilon=8.0, delta=1e-5)
    app = client_app(np.zeros((4, 20_000)), [mod])
    result = run(FedAvg(), app, size=20_000)
    weights = np.arange(1, 5) / 10
    assert model(result).std() == pytest.approx(
        mod.noise_std * np.sqrt((weights**2).sum()), rel=0.05
    )
    assert np.array_equal(model(result), model(run(FedAvg(), app, size=20_000)))
    silent = mods.LocalDpMod(2.0, 0.0, 1.0, 1e-5)
    expected = (STEPS * np.minimum(1, 2 / np.array([5, 1, 1, 10]))[:, None]).T @ weights
    np.testing.assert_allclose(
        model(run(FedAvg(), client_app(client_mods=[silent]))), expected, atol=1e-6
    )
    with pytest.raises(ConfigError, match="epsilon is above 0"):
        mods.LocalDpMod(1.0, 1.0, 0.0, 1e-5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SERVER_FIXED(FedAvg(), -1.0, 1.0, 4), "noise_multiplier is not negative"),
        (lambda: SERVER_FIXED(FedAvg(), 1.0, 0.0, 4), "bound"),
        (lambda: SERVER_FIXED(FedAvg(), 1.0, 1.0, 0), "cohort"),
        (lambda: SERVER_ADAPTIVE(FedAvg(), 1.0, 4), "the noise multiplier 1 allows"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()
