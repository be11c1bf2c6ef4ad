"""The terms, in NumPy and in PyTorch."""

import numpy as np
import pytest

from umbel.base import UsageError
from umbel.clientapp import (
    FedDynTerm,
    LocalTerm,
    ProximalTerm,
    ScaffoldTerm,
    batch_norm_names,
    freeze,
    local_norm,
)
from umbel.records import ArrayRecord, ConfigRecord, Context, Message, RecordDict

torch = pytest.importorskip("torch")


def request(arrays, **config):
    content = {"arrays": ArrayRecord(arrays), "config": ConfigRecord(config)}
    return Message(RecordDict(content), 1, "train")


def test_the_term_is_the_gradient_of_what_fedprox_adds():
    x, y, mu = np.array([1.0, -2.0]), np.array([0.5, 3.0]), 0.3
    term = ProximalTerm(request({"w": x}, **{"proximal-mu": mu}))
    (got,) = term.corrected({"w": np.zeros(2)}, {"w": y}).values()

    def loss(y):
        return mu / 2 * np.sum((y - x) ** 2)

    step = 1e-6 * np.eye(2)
    numeric = [(loss(y + e) - loss(y - e)) / 2e-6 for e in step]
    np.testing.assert_allclose(got, numeric, rtol=1e-6)


def test_torch_gradients_get_the_same_term():
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2)
    anchor = {k: v.numpy() + 1 for k, v in model.state_dict().items()}
    offset = {k: np.full_like(v, 0.25) for k, v in anchor.items()}
    term = LocalTerm(anchor, 0.5, offset)
    model(torch.ones(4, 3)).sum().backward()
    before = {k: p.grad.numpy().copy() for k, p in model.named_parameters()}
    values = {k: p.detach().numpy() for k, p in model.named_parameters()}
    expected = LocalTerm(anchor, 0.5, offset).corrected(before, values)
    term.correct(model)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), expected[name], rtol=1e-6)
    assert term.steps == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gradients_keep_their_dtype(dtype):
    term = ProximalTerm(request({"w": np.zeros(2, dtype)}), mu=0.1)
    assert term.corrected({"w": np.ones(2, dtype)}, {"w": np.ones(2, dtype)})["w"].dtype == dtype


def test_statistics_and_whole_numbers_have_no_term():
    arrays = {"w": np.zeros(1), "bn.running_var": np.ones(1), "n": np.array(1)}
    assert list(ProximalTerm(request(arrays), mu=1.0).anchor) == ["w"]


def test_nothing_is_kept_when_training_fails():
    context = Context("run", 1)
    term = FedDynTerm(request({"w": np.zeros(1)}), context, alpha=0.1)
    with pytest.raises(UsageError, match="lacks arrays"):
        term.finish(RecordDict({"arrays": ArrayRecord({"other": np.zeros(1)})}))
    assert len(context.state) == 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda m, c: ProximalTerm(m), "no 'proximal-mu'"),
        (lambda m, c: ProximalTerm(m, mu=-1.0), "strength"),
        (lambda m, c: ProximalTerm(m, 1.0, record="model"), "no ArrayRecord 'model'"),
        (lambda m, c: FedDynTerm(m, c), "no 'feddyn-alpha'"),
        (lambda m, c: ScaffoldTerm(m, c, 0.1), "no record 'control'"),
        (lambda m, c: ProximalTerm(m, 1.0).corrected({"v": 1}, {"v": 1}), "none of the names"),
        (lambda m, c: local_norm(0), "is no norm"),
    ],
)
def test_errors_say_what_to_do(make, text):
    with pytest.raises(UsageError, match=text) as caught:
        make(request({"w": np.zeros(1)}), Context("run", 1))
    assert caught.value.hint


def test_scaffold_without_a_step_is_refused():
    content = RecordDict(
        {"arrays": ArrayRecord([np.zeros(1)]), "control": ArrayRecord([np.ones(1)])}
    )
    term = ScaffoldTerm(Message(content, 1, "train"), Context("run", 1), 0.1)
    with pytest.raises(UsageError, match="no gradient was corrected"):
        term.finish(content)


@pytest.mark.parametrize(("momentum", "mu"), [(0.0, 0.0), (0.9, 0.0), (0.0, 2.0), (0.5, 1.0)])
def test_the_local_norm_is_that_of_steps_along_a_constant_gradient(momentum, mu):
    rate, y, velocity = 0.1, 0.0, 0.0
    for _ in range(6):
        velocity = momentum * velocity + 1.0 + mu * y
        y -= rate * velocity
    assert local_norm(6, momentum=momentum, learning_rate=rate, mu=mu) == pytest.approx(-y / rate)


def test_the_formulas_of_the_paper():
    rho, decay = 0.7, 1 - 0.1 * 0.5
    momentum = sum((1 - rho ** (5 - j)) / (1 - rho) for j in range(5))
    assert local_norm(5, momentum=rho) == pytest.approx(momentum)
    prox = sum(decay ** (5 - 1 - j) for j in range(5))
    assert local_norm(5, learning_rate=0.1, mu=0.5) == pytest.approx(prox)


def test_frozen_parameters_are_not_trained():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    model(torch.randn(4, 2)).sum().backward()
    freeze(model, ["1.*"])
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["1.weight", "1.bias"]
    assert model[1].weight.grad is None
    freeze(model, [])
    assert all(p.requires_grad for p in model.parameters())
    names = ["1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert batch_norm_names(model) == names
