"""Whoever gives an argument of another type, or NaN, is told so where it is given."""

import math

import pytest

from umbel.base import UsageError
from umbel.clientapp import compression_mod, personal_layers_mod
from umbel.privacy import AdaptiveBound, BandedMatrix, PerLayer
from umbel.secagg import FixedPoint, SecAggParameters
from umbel.serverapp import FractionSampler, MinSeparationSampler, PoissonSampler, WeightedSampler
from umbel.strategies import (
    Bulyan,
    CenteredClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedDyn,
    FedOpt,
    FedPer,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    GeometricMedian,
    Krum,
    MultiKrum,
    NormBounding,
    PowerOfChoice,
    QFedAvg,
    Scaffold,
    with_central_dp,
    with_compression,
    with_correlated_dp,
    with_distributed_dp,
    with_example_dp,
    with_local_dp,
    with_secagg,
)
from umbel.updates import QSGD, RandomK, SharedRandomK, TopK, scale

CENTRAL = {"noise_multiplier": 1.0, "clipping": 1.0, "cohort": 4, "delta": 1e-5}
EXAMPLE = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 2, "max_norm": 1.0, "delta": 0.1}
LOCAL = {"noise_multiplier": 1.0, "clipping": 1.0, "delta": 1e-5}

MADE = [
    (Bulyan, {"num_malicious_nodes": 1}),
    (CenteredClipping, {"tau": 1.0, "iterations": 1}),
    (FedAdagrad, {"eta": 0.1, "tau": 0.1}),
    (FedAdam, {"eta": 0.1, "beta_1": 0.9, "beta_2": 0.9, "tau": 0.1}),
    (FedAvg, {"fraction_train": 1.0, "min_train_nodes": 2, "min_completion": 1, "max_repeats": 1}),
    (FedAvg, {"averaged_keys": ["bn.*"], "server_optimizer": None, "train_sampler": None}),
    (FedAvgM, {"server_learning_rate": 1.0, "server_momentum": 0.5}),
    (FedDyn, {"alpha": 0.1}),
    (FedOpt, {"direction": scale(1.0), "eta": 0.1}),
    (FedPer, {"personal": ["head.*"]}),
    (FedProx, {"proximal_mu": 0.1}),
    (FedTrimmedAvg, {"beta": 0.1}),
    (FedYogi, {"eta": 0.1, "tau": 0.1}),
    (GeometricMedian, {"nu": 0.1, "iterations": 1}),
    (Krum, {"num_malicious_nodes": 1}),
    (MultiKrum, {"num_malicious_nodes": 1, "num_nodes_to_select": 1}),
    (NormBounding, {"max_norm": 1.0}),
    (PowerOfChoice, {"num_candidates": 2, "num_selected": 1, "candidate_timeout_s": 1.0}),
    (PowerOfChoice, {"num_candidates": 2, "num_selected": 1, "weights": {1: 2.0}}),
    (QFedAvg, {"client_learning_rate": 0.1, "q": 0.1}),
    (Scaffold, {"server_learning_rate": 1.0}),
    (FractionSampler, {"fraction": 0.1, "min_nodes": 1, "min_available": 1, "wait_s": 1.0}),
    (MinSeparationSampler, {"separation": 2, "size": 1, "min_available": 1, "wait_s": 1.0}),
    (PoissonSampler, {"rate": 0.1, "min_available": 1, "wait_s": 1.0}),
    (WeightedSampler, {"size": 1, "weights": {1: 2.0}, "wait_s": 1.0}),
    (lambda **given: with_central_dp(FedAvg(), **CENTRAL | given), CENTRAL),
    (
        lambda matrix: with_correlated_dp(FedAvg(), matrix=matrix, **CENTRAL),
        {"matrix": BandedMatrix(4, 2)},
    ),
    (lambda **given: with_distributed_dp(FedAvg(), **given), CENTRAL),
    (lambda **given: with_example_dp(FedAvg(), **given), EXAMPLE),
    (lambda **given: with_local_dp(FedAvg(), **given), LOCAL),
    (
        lambda **given: with_secagg(FedAvg(), **{"weight_max": 1.0} | given),
        {"weight_max": 1.0, "clip": 1.0, "minimum_cohort": 3, "corrupt": 0.1, "dropout": 0.1}
        | {"stage_timeout_s": 1.0, "bits": 32, "metrics": {"loss": 9.0}, "compressor": None},
    ),
    (lambda **given: with_compression(FedAvg(), **given), {"compressor": TopK(0.1), "dense": []}),
    (compression_mod, {"compressor": TopK(0.1), "dense": []}),
    (personal_layers_mod, {"personal": ["head.*"]}),
    (AdaptiveBound, {"bound": 1.0, "quantile": 0.5, "learning_rate": 0.1}),
    (PerLayer, {"bounds": {"w": 1.0}}),
    (FixedPoint, {"clip": 1.0, "weight_max": 1.0, "cohort_max": 2, "bits": 32}),
    (SecAggParameters, {"threshold": 3, "length": 4, "bits": 32, "degree": 4}),
    (QSGD, {"levels": 4}),
    (RandomK, {"fraction": 0.1}),
    (SharedRandomK, {"fraction": 0.1}),
    (TopK, {"fraction": 0.1}),
]
WRONG = ["*a", math.nan, -1, b"*", object()]


@pytest.mark.parametrize(("make", "given"), MADE)
def test_no_argument_of_another_kind_is_taken(make, given):
    def is_taken(changed):
        try:
            make(**changed)
        except UsageError:
            return False
        return True

    assert is_taken(given)
    assert [(k, wrong) for k in given for wrong in WRONG if is_taken(given | {k: wrong})] == []


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: PoissonSampler("a"), "rate='a'"),
        (lambda: with_secagg(FedAvg(), weight_max=1.0, metrics=["loss"]), r"got \['loss'\]"),
        (lambda: with_secagg(FedAvg(), weight_max=1.0, metrics={1: 2.0}), r"got \{1: 2.0\}"),
        (lambda: with_correlated_dp(FedAvg(), matrix="a", **CENTRAL), "BandedMatrix"),
        (lambda: FedAvg(averaged_keys="bn.*"), r"write averaged_keys=\["),
    ],
)
def test_the_text_says_what_was_given(make, told):
    with pytest.raises(UsageError, match=told):
        make()
