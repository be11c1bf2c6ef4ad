"""Umbel's strategies keep the contract, and each check finds a strategy that does not."""

import numpy as np
import pytest
import xgboost

from umbel import Strategy, strategies
from umbel.base import Seeds
from umbel.clientapp import (
    ClientApp,
    FedDynTerm,
    ScaffoldTerm,
    compression_mod,
    dp_client_mod,
    local_dp_mod,
    secagg_mod,
)
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.strategies import (
    Bulyan,
    CenteredClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedBN,
    FedDyn,
    FedMedian,
    FedNova,
    FedOpt,
    FedPer,
    FedProx,
    FedTrimmedAvg,
    FedXgbBagging,
    FedXgbCyclic,
    FedYogi,
    GeometricMedian,
    KeptReplies,
    Krum,
    MultiKrum,
    NormBounding,
    PowerOfChoice,
    QFedAvg,
    Scaffold,
    with_central_dp,
    with_client_dp,
    with_compression,
    with_distributed_dp,
    with_local_dp,
    with_secagg,
)
from umbel.testing import strategy_checks
from umbel.updates import Aggregator, MedianRule, TopK, momentum, trainable

ANY_NUMBER = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
# Noise too small to be seen: tests/strategies/test_central_dp.py has the checks with noise.
PRIVATE = {"noise_multiplier": 1e-7, "delta": 1e-6, "accountant": "rdp", "cohort": 7}
STRATEGIES = {
    "FedAvg": FedAvg(**ANY_NUMBER),
    "FedAvg of a part": FedAvg(0.5, 0.5, **ANY_NUMBER),
    "FedAvg of two at least": FedAvg(),
    "FedAvg of all": FedAvg(min_completion=1.0),
    "FedAvg that skips": FedAvg(min_completion=0.9, on_shortfall="skip"),
    "FedAvgM": FedAvgM(server_momentum=0.9, server_learning_rate=0.7, **ANY_NUMBER),
    "FedAdam": FedAdam(**ANY_NUMBER),
    "FedAdam without correction": FedAdam(bias_correction=False, **ANY_NUMBER),
    "FedAdagrad": FedAdagrad(**ANY_NUMBER),
    "FedYogi": FedYogi(**ANY_NUMBER),
    "FedProx": FedProx(proximal_mu=0.1, **ANY_NUMBER),
    "FedMedian": FedMedian(**ANY_NUMBER),
    "FedTrimmedAvg": FedTrimmedAvg(beta=0.2, **ANY_NUMBER),
    "Krum": Krum(**ANY_NUMBER),
    "MultiKrum": MultiKrum(num_nodes_to_select=2, **ANY_NUMBER),
    "Bulyan": Bulyan(**ANY_NUMBER),
    "GeometricMedian": GeometricMedian(**ANY_NUMBER),
    "CenteredClipping": CenteredClipping(**ANY_NUMBER),
    "NormBounding": NormBounding(max_norm=1.0, **ANY_NUMBER),
    "FedPer": FedPer(personal=["head.*"], **ANY_NUMBER),
    "FedBN": FedBN(**ANY_NUMBER),
    "FedOpt": FedOpt(momentum(0.5), 0.5, **ANY_NUMBER),
    "KeptReplies": KeptReplies(MedianRule(), **ANY_NUMBER),
    "CentralDP": with_central_dp(FedAvg(**ANY_NUMBER), clipping=1.0, **PRIVATE),
    "PowerOfChoice": PowerOfChoice(num_candidates=5, num_selected=3),
}


def evaluating(app):
    @app.evaluate()
    def evaluate(message, context):
        metrics = MetricRecord({"num-examples": 1, "arrays": len(message.content["arrays"])})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def clients(make_term=None, mods=None, **metrics):
    """Return an app that takes one step of SGD, with a term, mods and metrics of its own."""
    app = evaluating(ClientApp(mods=mods))

    @app.train()
    def train(message, context):
        place, lr = context.node_config["partition-id"], context.run_config["lr"]
        server_round = message.content["config"]["server-round"]
        arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
        pull = {k: np.sin(np.arange(a.size) + 3 * place + server_round) for k, a in arrays.items()}
        names = trainable(arrays)
        gradients = {k: pull[k].reshape(arrays[k].shape).astype(arrays[k].dtype) for k in names}
        term = None if make_term is None else make_term(message, context, lr or 1.0)
        if term is not None:
            gradients = term.corrected(gradients, arrays)
        for key, gradient in gradients.items():
            arrays[key] = np.asarray(arrays[key] - lr * gradient, arrays[key].dtype)
        told = MetricRecord({"num-examples": 1 + place % 3, **metrics})
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": told})
        return Message(term.finish(content) if term else content, reply_to=message)

    return app


def seeding(message, context, call_next):
    """Seed what mods draw from, as a simulation does; elsewhere nothing does."""
    server_round = message.content["config"]["server-round"]
    Seeds(context.node_id).child(server_round).seed_globals()
    return call_next(message, context)


def boosting_clients(whole):
    """Return an app that adds a tree, and replies with all of the model or with the tree alone."""
    app = evaluating(ClientApp())
    labels = np.arange(24) % 2
    parameters = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1, "base_score": 0.5}

    @app.train()
    def train(message, context):
        content = message.content["arrays"]
        place, learns = context.node_config["partition-id"], bool(context.run_config["lr"])
        inputs = np.sin(np.arange(72) * (1 + place)).reshape(24, 3)
        start = xgboost.Booster({"nthread": 1})
        start.load_model(bytearray(content["0"].numpy().tobytes()))
        data = xgboost.DMatrix(inputs, labels, nthread=1)
        after = xgboost.train(parameters, data, int(learns), xgb_model=start)
        added = after[start.num_boosted_rounds() :] if learns else empty  # no slice is empty
        booster = after if whole else added
        raw = np.frombuffer(bytes(booster.save_raw("json")), np.uint8)
        metrics = MetricRecord({"num-examples": 1 + place % 3})
        content = RecordDict({"arrays": ArrayRecord([raw]), "metrics": metrics})
        return Message(content, reply_to=message)

    data = xgboost.DMatrix(np.cos(np.arange(72.0)).reshape(24, 3), labels, nthread=1)
    empty, begun = (xgboost.train(parameters, data, rounds) for rounds in (0, 1))
    raw = np.frombuffer(bytes(begun.save_raw("json")), np.uint8)
    return {"app": app, "arrays": ArrayRecord([raw]), "nodes": 3, "grows": True}


OWN_CLIENTS = {
    "Scaffold": (
        Scaffold(**ANY_NUMBER),
        {"app": clients(lambda m, c, lr: ScaffoldTerm(m, c, learning_rate=lr))},
    ),
    "FedDyn": (
        FedDyn(alpha=0.5, **ANY_NUMBER),
        {"app": clients(lambda m, c, lr: FedDynTerm(m, c))},
    ),
    "FedNova": (FedNova(**ANY_NUMBER), {"app": clients(**{"local-norm": 2.0})}),
    "QFedAvg": (
        QFedAvg(client_learning_rate=0.1, q=0.5, **ANY_NUMBER),
        {"app": clients(train_loss=0.7)},
    ),
    "Compressed": (
        with_compression(FedAvg(**ANY_NUMBER), TopK(0.5)),
        {"app": clients(mods=[compression_mod(TopK(0.5))])},
    ),
    "ClientDP": (
        with_client_dp(FedAvg(**ANY_NUMBER), clipping=1.0, **PRIVATE),
        {"app": clients(mods=[dp_client_mod])},
    ),
    "LocalDP": (
        with_local_dp(
            FedAvg(**ANY_NUMBER), clipping=1.0, delta=1e-6, noise_multiplier=1e-7, accountant="rdp"
        ),
        {"app": clients(mods=[seeding, local_dp_mod(clipping=1.0, noise_multiplier=1e-7)])},
    ),
    "SecurelyAggregated": (
        with_secagg(FedAvg(**ANY_NUMBER), weight_max=8, minimum_cohort=2),
        {"app": clients(mods=[secagg_mod(minimum_cohort=2)])},
    ),
    "DistributedDP": (
        with_distributed_dp(
            FedAvg(**ANY_NUMBER),
            noise_multiplier=1e-10,
            clipping=100.0,
            cohort=7,
            delta=1e-6,
            minimum_cohort=2,
        ),
        {"app": clients(mods=[secagg_mod(minimum_cohort=2), seeding])},
    ),
    "FedXgbBagging": (FedXgbBagging(**ANY_NUMBER), boosting_clients(whole=False)),
    "FedXgbCyclic": (FedXgbCyclic(min_available_nodes=1), boosting_clients(whole=True)),
}
"""Strategies that need clients of their own kind, and what their checks are told."""
CHECKS = dict(strategy_checks())
SLOW = "same_bits_on_backends"
ROWS = [
    pytest.param(strategy, check, id=f"{row}-{name}", marks=[pytest.mark.slow] * (name == SLOW))
    for row, strategy, checks in (
        *((row, strategy, CHECKS) for row, strategy in STRATEGIES.items()),
        *((row, s, dict(strategy_checks(**told))) for row, (s, told) in OWN_CLIENTS.items()),
    )
    for name, check in checks.items()
]


@pytest.mark.parametrize(("strategy", "check"), ROWS)
def test_umbels_strategies(strategy, check):
    check(strategy)


def test_every_public_strategy_is_a_row():
    public = {getattr(strategies, name) for name in strategies.__all__}
    public = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Strategy)}
    rows = {
        *map(type, STRATEGIES.values()),
        *(type(strategy) for strategy, _ in OWN_CLIENTS.values()),
    }
    assert public == rows


class ByHand(FedAvg):
    """Averages the replies itself, without any care; each class below breaks one thing more."""

    def __init__(self):
        super().__init__(**ANY_NUMBER)

    def contents(self, replies):
        return [reply.content for reply in replies if reply.has_content()]

    def aggregate_train(self, server_round, replies):
        arrays = [content["arrays"].views() for content in self.contents(replies)]
        mean = {
            key: np.asarray(sum(a[key].astype(np.float64) for a in arrays) / len(arrays)).astype(
                first.dtype
            )
            for key, first in arrays[0].items()
        }
        return ArrayRecord(mean), None


class TakesNaN(ByHand):
    def __init__(self):
        FedAvg.__init__(self, require_finite=False, **ANY_NUMBER)


class Decays(ByHand):
    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        return ArrayRecord(
            {k: (a * 0.9).astype(a.dtype) if a.dtype.kind == "f" else a for k, a in views(arrays)}
        ), metrics


def views(arrays):
    return arrays.views().items()


class Widens(ByHand):
    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        return ArrayRecord({k: a.astype(np.float64) for k, a in views(arrays)}), metrics


class NeedsVariance(ByHand):
    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        return super().aggregate_train(server_round, replies[: len(replies) // (len(replies) - 1)])


class TrustsAll(ByHand):
    def contents(self, replies):
        return [reply.content for reply in replies]


class AsksForAll(ByHand):
    def aggregate_train(self, server_round, replies):
        if len(list(replies)) < len(self.run.cohort):
            raise IndexError("a reply is missing")
        return super().aggregate_train(server_round, replies)


class GoesOnWithNone(FedAvg):
    def __init__(self):
        super().__init__(on_shortfall="skip", **ANY_NUMBER)

    def replies_needed(self, cohort):
        return 0

    def aggregate_train(self, server_round, replies):
        if not any(reply.has_content() for reply in replies):
            return ArrayRecord({k: a * 0 for k, a in views(self.current_arrays)}), None
        return super().aggregate_train(server_round, replies)


class StepsInFoldOnly(FedAvg):
    """Does more in ``aggregate_train`` than in ``finish_train``."""

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, list(replies)[:-1])
        self.called = True
        return arrays, metrics

    def start(self, grid, initial_arrays, **options):
        type(self).aggregate_train, own = FedAvg.aggregate_train, type(self).aggregate_train
        try:
            return super().start(grid, initial_arrays, **options)
        finally:
            type(self).aggregate_train = own


class WritesToTheModel(ByHand):
    def aggregate_train(self, server_round, replies):
        for array in self.current_arrays.lent().values():
            array += 1
        return super().aggregate_train(server_round, replies)


class CountsAllItsObjects(ByHand):
    calls = 0

    def aggregate_train(self, server_round, replies):
        CountsAllItsObjects.calls += 1
        arrays, metrics = super().aggregate_train(server_round, replies)
        shift = np.float32(CountsAllItsObjects.calls)
        return ArrayRecord({k: a + shift if k == "w" else a for k, a in views(arrays)}), metrics


class ForgetsItsState(FedAvgM):
    def __init__(self):
        super().__init__(server_momentum=0.9, **ANY_NUMBER)

    def state_dict(self):
        return RecordDict()


class LoadsAnything(ByHand):
    def load_state_dict(self, state):
        pass


class CountsParts(Aggregator):
    """Counts how often partial sums travelled, which depends on the workers."""

    def __init__(self, inner):
        self.inner = inner

    def zero(self):
        return [self.inner.zero(), 0]

    def add(self, acc, content):
        return [self.inner.add(acc[0], content), acc[1]]

    def merge(self, left, right):
        return [self.inner.merge(left[0], right[0]), left[1] + right[1]]

    def finish(self, acc):
        return self.inner.finish(acc[0]), acc[1]

    def pack(self, acc):
        packed = self.inner.pack(acc[0])
        packed["totals"]["travels"] = acc[1] + 1
        return packed

    def unpack(self, content):
        return [self.inner.unpack(content), content["totals"]["travels"]]


class CountsTravels(FedAvg):
    def train_aggregator(self, server_round):
        return CountsParts(super().train_aggregator(server_round))

    def finish_train(self, server_round, value):
        arrays, metrics = super().finish_train(server_round, value[0])
        metrics["travels"] = value[1]
        return arrays, metrics


BROKEN = {
    "zero_update": Decays,
    "shapes_and_dtypes_stay": Widens,
    "one_node": NeedsVariance,
    "some_nodes_fail": TrustsAll,
    "replies_go_missing": AsksForAll,
    "all_nodes_fail": GoesOnWithNone,
    "nan_is_rejected": TakesNaN,
    "order_of_replies": ByHand,
    "fold_is_aggregate": StepsInFoldOnly,
    "current_arrays_stay": WritesToTheModel,
    "runs_are_repeatable": CountsAllItsObjects,
    "state_travels": ForgetsItsState,
    "a_run_is_resumed": ForgetsItsState,
    "state_of_others_is_refused": LoadsAnything,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_found(name):
    with pytest.raises(AssertionError):
        CHECKS[name](BROKEN[name])


@pytest.mark.slow
def test_bits_that_depend_on_workers_are_found():
    with pytest.raises(AssertionError, match="worker processes give other bits"):
        CHECKS[SLOW](CountsTravels)


def test_every_check_has_a_strategy_that_fails_it():
    assert {*BROKEN, SLOW} == set(CHECKS)
