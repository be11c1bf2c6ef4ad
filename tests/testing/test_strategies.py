"""Umbel's strategies keep the contract."""

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
from umbel.privacy import BandedMatrix
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
    with_correlated_dp,
    with_distributed_dp,
    with_example_dp,
    with_local_dp,
    with_secagg,
)
from umbel.testing import strategy_checks
from umbel.updates import MedianRule, TopK, momentum, trainable

ANY_NUMBER = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
# Noise too small to be seen: tests/strategies/test_central_dp.py has the checks with noise.
PRIVATE = {"noise_multiplier": 1e-7, "delta": 1e-6, "accountant": "rdp", "cohort": 7}
EXAMPLES = {"noise_multiplier": 1.0, "delta": 1e-6, "accountant": "rdp"}
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
    "CorrelatedDP": with_correlated_dp(
        FedAvg(), matrix=BandedMatrix(9, 2), clipping=1, **PRIVATE | {"noise_multiplier": 1e-9}
    ),
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


def private_training(message, context, call_next):
    """Say that the numbers were kept to, as an app that trains privately does."""
    asked = message.content.get("dp")
    reply = call_next(message, context)
    return (
        reply
        if asked is None
        else Message(RecordDict({**reply.content, "dp": asked}), reply_to=message)
    )


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
    "ExampleDP": (
        with_example_dp(FedAvg(**ANY_NUMBER), sampling_rate=0.1, steps=2, max_norm=1.0, **EXAMPLES),
        {"app": clients(mods=[private_training])},
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
    named = (getattr(strategies, name) for name in strategies.__all__)
    public = {kind for kind in named if isinstance(kind, type) and issubclass(kind, Strategy)}
    own = (strategy for strategy, _ in OWN_CLIENTS.values())
    rows = {type(strategy) for strategy in (*STRATEGIES.values(), *own)}
    assert public - {strategies.Wrapper} == rows
