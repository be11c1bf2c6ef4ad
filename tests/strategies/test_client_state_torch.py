"""The same algorithms in a PyTorch training loop."""

import numpy as np
import pytest

from umbel.clientapp import FedDynTerm, ProximalTerm, ScaffoldTerm, local_norm
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.strategies import FedAvg, FedDyn, FedNova, Scaffold

torch = pytest.importorskip("torch")

RATE, STEPS = 0.1, 4
DATA = np.random.default_rng(3).standard_normal((4, 8, 3)).astype(np.float32)
LABELS = np.random.default_rng(4).standard_normal((4, 8, 1)).astype(np.float32)


def initial():
    return ArrayRecord({"weight": np.zeros((1, 3), np.float32), "bias": np.zeros(1, np.float32)})


def with_torch(message, context, term):
    model = torch.nn.Linear(3, 1)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = torch.from_numpy(DATA[context.node_id]), torch.from_numpy(LABELS[context.node_id])
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((model(x) - y) ** 2).mean().backward()
        if term is not None:
            term.correct(model)
        optimizer.step()
    return model.state_dict()


def with_numpy(message, context, term):
    values = {key: array.numpy() for key, array in message.content["arrays"].items()}
    x, y = DATA[context.node_id], LABELS[context.node_id]
    for _ in range(STEPS):
        error = 2 * (x @ values["weight"].T + values["bias"] - y) / len(x)
        gradients = {"weight": error.T @ x, "bias": error.sum(axis=0)}
        if term is not None:
            gradients = term.corrected(gradients, values)
        values = {key: value - np.float32(RATE) * gradients[key] for key, value in values.items()}
    return values


ALGORITHMS = {
    "fedprox": (FedAvg, lambda message, context: ProximalTerm(message, mu=0.5)),
    "scaffold": (Scaffold, lambda message, context: ScaffoldTerm(message, context, RATE)),
    "feddyn": (lambda **o: FedDyn(alpha=0.5, **o), FedDynTerm),
    "fednova": (FedNova, lambda message, context: None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_torch_and_numpy_learn_the_same(federate, name):
    make, term_of = ALGORITHMS[name]

    def client_of(loop):
        def client(message, context):
            term = term_of(message, context)
            arrays = ArrayRecord(loop(message, context, term))
            metrics = MetricRecord({"num-examples": 8, "local-norm": local_norm(STEPS)})
            content = RecordDict({"arrays": arrays, "metrics": metrics})
            return term.finish(content) if hasattr(term, "finish") else content

        return client

    runs = [
        federate(make(fraction_evaluate=0), client_of(loop), initial=initial(), num_rounds=5)
        for loop in (with_torch, with_numpy)
    ]
    assert [run.failures for run in runs] == [[], []]
    for key in initial():
        one, two = (run.arrays[key].view() for run in runs)
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
        assert np.abs(one).max() > 0.01
