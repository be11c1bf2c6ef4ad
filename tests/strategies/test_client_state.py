"""Strategies whose clients remember: equalities and limits, on quadratics with known optima."""

import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.clientapp import (
    DittoTerm,
    FedDynTerm,
    ScaffoldTerm,
    local_norm,
    personal_layers_mod,
)
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.strategies import FedAvg, FedBN, FedDyn, FedNova, FedPer, Scaffold

RATE = 0.1
CURVATURE = np.array([0.5, 1.0, 2.0, 3.0])
TARGETS = np.arange(12.0).reshape(4, 3) ** 1.5 / 5
OPTIMUM = (CURVATURE[:, None] * TARGETS).sum(axis=0) / CURVATURE.sum()
"""Where the plain mean of the clients' losses is least."""


def model():
    return ArrayRecord({"w": np.zeros(3), "bn.running_mean": np.zeros(2), "steps": np.array(0)})


def gradients(w, node):
    return {"w": CURVATURE[node] * (w - TARGETS[node])}


def bits(record):
    return {key: (array.dtype, array.shape, bytes(array.data)) for key, array in record.items()}


def descend(message, context, term=None, steps=5, examples=1, **metrics):
    """Plain SGD on the node's quadratic."""
    arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
    for _ in range(steps):
        g = gradients(arrays["w"], context.node_id)
        if term is not None:
            g = term.corrected(g, arrays)
        arrays["w"] -= RATE * g["w"]
    told = MetricRecord({"num-examples": examples, **metrics})
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": told})


def plain(message, context):
    return descend(message, context)


def with_scaffold(message, context):
    if message.metadata.message_type == "evaluate":
        return RecordDict({"metrics": MetricRecord({"num-examples": 1})})
    term = ScaffoldTerm(message, context, RATE)
    return term.finish(descend(message, context, term))


def with_feddyn(message, context):
    if message.metadata.message_type == "evaluate":
        return RecordDict({"metrics": MetricRecord({"num-examples": 1})})
    term = FedDynTerm(message, context)
    return term.finish(descend(message, context, term))


def uneven_nova(message, context):
    steps = 1 + 2 * context.node_id
    return descend(message, context, steps=steps, **{"local-norm": local_norm(steps)})


def distance(result):
    return float(np.abs(result.arrays["w"].view() - OPTIMUM).max())


class TestScaffold:
    def test_one_step_with_zero_variates_is_fedavg_bit_for_bit(self, federate):
        def one(message, context):
            term = ScaffoldTerm(message, context, RATE)
            return term.finish(descend(message, context, term, steps=1, examples=context.node_id))

        def one_plain(message, context):
            return descend(message, context, steps=1, examples=context.node_id)

        options = {"initial": model(), "num_rounds": 1}
        got = federate(Scaffold(fraction_evaluate=0), one, **options)
        expected = federate(FedAvg(fraction_evaluate=0), one_plain, **options)
        assert bits(got.arrays) == bits(expected.arrays)

    @pytest.mark.slow
    def test_it_reaches_the_optimum_where_fedavg_does_not(self, federate):
        options = {"initial": model(), "num_rounds": 60}
        assert distance(federate(FedAvg(fraction_evaluate=0), plain, **options)) > 0.05
        got = federate(Scaffold(fraction_evaluate=0), with_scaffold, **options)
        assert distance(got) < 1e-4

    def test_the_server_s_variate_is_the_mean_of_the_clients(self, federate):
        own = {}

        def client(message, context):
            content = with_scaffold(message, context)
            if "arrays" in content:
                own[context.node_id] = context.state["scaffold-control"]["w"].numpy()
            return content

        strategy = Scaffold(fraction_train=0.5)
        federate(strategy, client, initial=model(), num_rounds=6)
        mean = sum(own.values()) / 4  # those that never took part hold zero
        np.testing.assert_allclose(strategy.state_dict()["control"]["w"].view(), mean, rtol=1e-12)
        assert list(strategy.state_dict()["control"]) == ["w"]

    def test_a_reply_without_its_variate_adds_nothing(self, federate):
        def client(message, context):
            forgets = context.node_id == 2
            return descend(message, context) if forgets else with_scaffold(message, context)

        result = federate(Scaffold(fraction_evaluate=0), client, initial=model(), num_rounds=1)
        others = [TARGETS[k] * (1 - (1 - RATE * CURVATURE[k]) ** 5) for k in (0, 1, 3)]
        np.testing.assert_allclose(result.arrays["w"].view(), np.mean(others, axis=0))
        assert [(f.node_id, f.kind) for f in result.failures] == [(2, "RejectedReply")]


class TestFedNova:
    @pytest.mark.parametrize("steps", [1, 3, 7])
    def test_equal_steps_are_fedavg_bit_for_bit(self, federate, steps):
        def client(message, context):
            return descend(
                message, context, steps=steps, examples=3 + context.node_id, **{"local-norm": steps}
            )

        options = {"initial": model(), "nodes": 4}
        got = federate(FedNova(), client, **options)
        assert bits(got.arrays) == bits(federate(FedAvg(), client, **options).arrays)

    def test_it_follows_the_formula(self, federate):
        def client(message, context):
            steps = 1 + 2 * context.node_id
            return descend(
                message, context, steps=steps, examples=2 + context.node_id, **{"local-norm": steps}
            )

        p = np.array([2, 3, 4, 5]) / 14
        tau = np.array([1, 3, 5, 7])
        w = np.zeros(3)
        for _ in range(3):
            ends = TARGETS + (w - TARGETS) * ((1 - RATE * CURVATURE) ** tau)[:, None]
            w = w + (p @ tau) * (p / tau) @ (ends - w)
        got = federate(FedNova(), client, initial=model(), num_rounds=3)
        np.testing.assert_allclose(got.arrays["w"].view(), w, rtol=1e-12)

    @pytest.mark.parametrize("norm", [0, -1.0, float("nan"), [1.0]])
    def test_a_norm_that_is_none_is_rejected(self, federate, norm):
        def client(message, context):
            metrics = {"local-norm": 2 if context.node_id else norm}
            return descend(message, context, **metrics)

        result = federate(FedNova(fraction_evaluate=0), client, initial=model(), num_rounds=1)
        assert [(f.node_id, f.kind) for f in result.failures] == [(0, "RejectedReply")]


class TestFedDyn:
    @pytest.mark.slow
    def test_it_reaches_the_optimum_where_fedavg_does_not(self, federate):
        strategy = FedDyn(alpha=0.5, fraction_evaluate=0)
        got = federate(strategy, with_feddyn, initial=model(), num_rounds=80)
        assert distance(got) < 1e-3

    def test_without_alpha_clients_train_as_ever(self, federate):
        seen = {}

        def client(message, context):
            content = with_feddyn(message, context)
            if "arrays" in content:
                undisturbed = descend(message, context)["arrays"]["w"].view()
                off = np.abs(content["arrays"]["w"].view() - undisturbed).max()
                seen[alpha] = max(seen.get(alpha, 0.0), off)
            return content

        for alpha in (1e-3, 1e-6, 1e-9):
            federate(FedDyn(alpha=alpha), client, initial=model(), num_rounds=3)
        assert 0 < seen[1e-9] < 1e-2 * seen[1e-6] < 1e-4 * seen[1e-3]

    def test_the_server_follows_the_formula(self, federate):
        alpha, w, h = 0.2, np.zeros(3), np.zeros(3)
        for _ in range(4):
            ends = TARGETS + (w - TARGETS) * ((1 - RATE * CURVATURE) ** 5)[:, None]
            h = h - alpha / 4 * (ends - w).sum(axis=0)
            w = ends.mean(axis=0) - h / alpha
        got = federate(FedDyn(alpha=alpha), plain, initial=model(), num_rounds=4)
        np.testing.assert_allclose(got.arrays["w"].view(), w, rtol=1e-12)

    def test_alpha_must_be_positive(self):
        with pytest.raises(ConfigError, match="alpha=0"):
            FedDyn(alpha=0)


class TestPersonalLayers:
    MODEL = ArrayRecord(
        {"body": np.zeros(2), "bn1.weight": np.ones(2), "bn1.running_mean": np.zeros(2)}
    )

    @staticmethod
    def client(message, context):
        arrays = {k: v + 1 + context.node_id for k, v in message.content["arrays"].views().items()}
        metrics = {"num-examples": 1, "bn": float(arrays["bn1.weight"][0])}
        return RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})

    def federate_with_mod(self, federate, strategy, personal, **options):
        mod = personal_layers_mod(personal)

        def client(message, context):
            def handler(inner, context):
                return Message(self.client(inner, context), reply_to=inner)

            content = mod(message, context, handler).content
            if "arrays" in content:
                assert list(content["arrays"]) == ["body"]
            return content

        return federate(strategy, client, initial=self.MODEL, **options)

    @pytest.mark.parametrize("make", [FedBN, lambda: FedPer(personal=["bn1.*"])], ids=["bn", "per"])
    def test_personal_arrays_never_leave_and_go_on_from_where_they_were(self, federate, make):
        result = self.federate_with_mod(federate, make(), make().personal, num_rounds=3)
        assert result.failures == []
        assert result.arrays["body"].view().tolist() == [7.5, 7.5]
        assert result.arrays["bn1.weight"] == self.MODEL["bn1.weight"]
        # Each node adds its own number again and again: 1 + 3 (1 + k), of which this is the mean.
        assert result.train_metrics_clientapp[3]["bn"] == 8.5

    def test_a_reply_that_carries_one_is_rejected(self, federate):
        strategy = FedPer(personal=["bn1.*"], fraction_evaluate=0, on_shortfall="skip")
        result = federate(strategy, self.client, initial=self.MODEL, num_rounds=1)
        assert {f.kind for f in result.failures} == {"RejectedReply"}
        assert "personal_layers_mod" in result.failures[0].message
        assert bits(result.arrays) == bits(self.MODEL)

    def test_a_model_with_nothing_to_share_is_refused(self, federate):
        with pytest.raises(ConfigError, match="every array"):
            federate(FedPer(personal=["*"]), self.client, initial=self.MODEL)


class TestDitto:
    def test_lambda_zero_is_local_training_and_leaves_fedavg_alone(self, federate):
        personal = {}

        def client(message, context):
            if message.metadata.message_type == "train":
                ditto = DittoTerm(message, context, lam=0.0)
                v = ditto.personal["w"].numpy()
                for _ in range(5):
                    v -= RATE * ditto.corrected(gradients(v, context.node_id), {"w": v})["w"]
                ditto.keep({"w": v})
                personal[context.node_id] = v
            return descend(message, context)

        got = federate(FedAvg(), client, initial=model(), num_rounds=4)
        assert bits(got.arrays) == bits(
            federate(FedAvg(), plain, initial=model(), num_rounds=4).arrays
        )
        for node, v in personal.items():
            alone = np.zeros(3)
            for _ in range(20):
                alone -= RATE * gradients(alone, node)["w"]
            assert v.tolist() == alone.tolist()


STATEFUL = {
    "scaffold": (Scaffold, with_scaffold),
    "fednova": (FedNova, uneven_nova),
    "feddyn": (FedDyn, with_feddyn),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_the_state_continues_bit_for_bit(federate, name):
    make, client = STATEFUL[name]

    def halves(grid, context):
        first = make()
        middle = first.start(grid, model(), num_rounds=2)
        second = make()
        second.load_state_dict(first.state_dict())
        return second.start(grid, middle.arrays, num_rounds=2)

    # Rounds 3 and 4 are counted as 1 and 2 after the break; nothing here depends on it.
    expected = federate(make(), client, initial=model(), num_rounds=4)
    got = federate(make(), client, main=halves)
    assert bits(got.arrays) == bits(expected.arrays)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATEFUL)
def test_processes_give_the_same_bits(federate, name):
    make, client = STATEFUL[name]
    expected = federate(make(), client, initial=model(), num_rounds=3)
    for workers in (1, 2):
        how = {"backend": "processes", "simulation": {"backend_config": {"workers": workers}}}
        got = federate(make(), client, initial=model(), num_rounds=3, **how)
        assert bits(got.arrays) == bits(expected.arrays)
