"""Against the formulas, written once more in plain NumPy."""

import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.strategies import FedAdagrad, FedAdam, FedAvgM, FedYogi
from umbel.updates import cosine_decay

SHAPE = (3, 2)
WEIGHTS = np.array([1.0, 2.0, 3.0, 4.0])


def start() -> np.ndarray:
    return np.linspace(-1, 1, 6).reshape(SHAPE)


def target(node: int, server_round: int) -> np.ndarray:
    return np.random.default_rng([node, server_round]).standard_normal(SHAPE)


def client(message, context):
    server_round = message.content["config"]["server-round"]
    arrays = ArrayRecord({"w": target(context.node_id, server_round)})
    metrics = MetricRecord({"num-examples": context.node_id + 1})
    return RecordDict({"arrays": arrays, "metrics": metrics})


def mean(server_round: int) -> np.ndarray:
    replies = [target(node, server_round) for node in range(4)]
    return np.average(replies, axis=0, weights=WEIGHTS)


def run(federate, strategy, rounds=5):
    return federate(strategy, client, initial=ArrayRecord({"w": start()}), num_rounds=rounds)


@pytest.mark.parametrize("bias_correction", [True, False])
def test_fedadam(federate, bias_correction):
    eta, beta_1, beta_2, tau = 0.3, 0.8, 0.95, 1e-2
    strategy = FedAdam(
        eta=eta, beta_1=beta_1, beta_2=beta_2, tau=tau, bias_correction=bias_correction
    )
    x, m, v = start(), np.zeros(SHAPE), np.zeros(SHAPE)
    for r in range(1, 6):
        delta = mean(r) - x
        m = beta_1 * m + (1 - beta_1) * delta
        v = beta_2 * v + (1 - beta_2) * delta**2
        rate = eta
        if bias_correction:
            rate *= np.sqrt(1 - beta_2 ** (r + 1)) / (1 - beta_1 ** (r + 1))
        x = x + rate * m / (np.sqrt(v) + tau)
    got = run(federate, strategy).arrays["w"].view()
    np.testing.assert_allclose(got, x, rtol=1e-12, atol=1e-14)


def test_fedadagrad(federate):
    eta, tau = 0.3, 1e-2
    x, v = start(), np.zeros(SHAPE)
    for r in range(1, 6):
        delta = mean(r) - x
        v = v + delta**2
        x = x + eta * delta / (np.sqrt(v) + tau)
    got = run(federate, FedAdagrad(eta=eta, tau=tau)).arrays["w"].view()
    np.testing.assert_allclose(got, x, rtol=1e-12, atol=1e-14)


def test_fedyogi_with_a_schedule(federate):
    eta, beta_1, beta_2, tau = cosine_decay(0.3, steps=4), 0.8, 0.95, 1e-2
    x, m, v = start(), np.zeros(SHAPE), np.zeros(SHAPE)
    for r in range(1, 6):
        delta = mean(r) - x
        m = beta_1 * m + (1 - beta_1) * delta
        v = v - (1 - beta_2) * delta**2 * np.sign(v - delta**2)
        x = x + eta(r) * m / (np.sqrt(v) + tau)
    strategy = FedYogi(eta=eta, beta_1=beta_1, beta_2=beta_2, tau=tau)
    got = run(federate, strategy).arrays["w"].view()
    np.testing.assert_allclose(got, x, rtol=1e-12, atol=1e-14)


def test_fedavgm(federate):
    rate, decay = 0.7, 0.9
    x, v = start(), np.zeros(SHAPE)
    for r in range(1, 6):
        v = decay * v + (x - mean(r))
        x = x - rate * v
    strategy = FedAvgM(server_learning_rate=rate, server_momentum=decay)
    np.testing.assert_allclose(run(federate, strategy).arrays["w"].view(), x, rtol=1e-12)


def test_a_learning_rate_alone_is_a_shorter_step(federate):
    got = run(federate, FedAvgM(server_learning_rate=0.5), rounds=1).arrays["w"].view()
    np.testing.assert_allclose(got, (start() + mean(1)) / 2, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_the_model_keeps_its_dtype(federate, dtype):
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))

    def narrow(message, context):
        arrays = ArrayRecord({"w": message.content["arrays"]["w"].view() + np.ones(4, kind)})
        return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})

    initial = ArrayRecord({"w": np.zeros(4, kind)})
    strategy = FedAdam(eta=0.5)
    result = federate(strategy, narrow, initial=initial, num_rounds=2)
    assert result.arrays["w"].dtype == dtype
    assert (result.arrays["w"].view().astype(float) > 0.2).all()
    assert strategy.state_dict()["arrays/0/m"]["w"].dtype == "float32"


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (FedAdam, {"eta": 0.0}),
        (FedAdam, {"beta_1": 1.0}),
        (FedAdam, {"beta_2": -0.1}),
        (FedAdam, {"tau": 0.0}),
        (FedAdagrad, {"eta": -1.0}),
        (FedYogi, {"beta_2": 1.0}),
        (FedAvgM, {"server_learning_rate": 0.0}),
        (FedAvgM, {"server_momentum": 1.0}),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(make, options):
    with pytest.raises(ConfigError, match="cannot step"):
        make(**options)
