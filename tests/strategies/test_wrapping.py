"""Which wrappers go around which: what cannot work is refused before a run begins."""

import pytest

from umbel.base import ConfigError
from umbel.strategies import (
    FedAvg,
    with_central_dp,
    with_client_dp,
    with_compression,
    with_distributed_dp,
    with_example_dp,
    with_local_dp,
    with_secagg,
)
from umbel.updates import TopK

SERVER = {"noise_multiplier": 1.0, "clipping": 1.0, "cohort": 5, "delta": 1e-3}
EXAMPLES = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 2, "max_norm": 1.0}
WRAP = {
    "central": lambda strategy: with_central_dp(strategy, **SERVER),
    "client": lambda strategy: with_client_dp(strategy, **SERVER),
    "local": lambda strategy: with_local_dp(
        strategy, clipping=1.0, noise_multiplier=1.0, delta=1e-3
    ),
    "distributed": lambda strategy: with_distributed_dp(strategy, **SERVER),
    "secagg": lambda strategy: with_secagg(strategy, weight_max=10),
    "example": lambda strategy: with_example_dp(strategy, **EXAMPLES, delta=1e-3),
    "compression": lambda strategy: with_compression(strategy, TopK(0.5)),
}


@pytest.mark.parametrize("outer", WRAP)
@pytest.mark.parametrize("inner", ["client", "local", "distributed", "secagg"])
def test_nothing_goes_around_clients_that_send_no_models(outer, inner):
    with pytest.raises(ConfigError) as caught:
        WRAP[outer](WRAP[inner](FedAvg()))
    assert any(words in str(caught.value) for words in ("cannot be", "cannot expand"))


@pytest.mark.parametrize("name", ["example", "compression"])
def test_the_same_twice_is_refused(name):
    with pytest.raises(ConfigError, match="once"):
        WRAP[name](WRAP[name](FedAvg()))


def test_private_training_may_be_inside_of_secure_aggregation():
    strategy = WRAP["secagg"](WRAP["example"](FedAvg()))
    assert strategy.plan.weighted_by == "num-examples"


@pytest.mark.parametrize("name", WRAP)
@pytest.mark.parametrize("thing", [FedAvg, "FedAvg", None], ids=str)
def test_only_strategies_are_wrapped(name, thing):
    with pytest.raises(ConfigError, match="a strategy is needed"):
        WRAP[name](thing)


@pytest.mark.parametrize("name", ["distributed", "secagg"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1},
        {"threshold": 0.4},
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"threshold": "half"},
        {"degree": 3},
        {"degree": "few"},
        {"degree": "auto", "threshold": 3},
        {"minimum_cohort": 1},
        {"minimum_cohort": 2.5},
        {"stage_timeout_s": float("nan")},
    ],
    ids=str,
)
def test_numbers_of_secure_aggregation_are_checked_when_they_are_given(name, wrong):
    make = {
        "distributed": lambda **options: with_distributed_dp(FedAvg(), **SERVER, **options),
        "secagg": lambda **options: with_secagg(FedAvg(), weight_max=10, **options),
    }[name]
    with pytest.raises(ConfigError, match=r"threshold|degree|minimum_cohort|stage_timeout_s"):
        make(**wrong)


@pytest.mark.parametrize("wrong", [{"colluders": 5}, {"colluders": 0.5}, {"cohort": 2.5}], ids=str)
def test_numbers_of_clients_that_make_no_sense_together(wrong):
    with pytest.raises(ConfigError, match=r"colluders|cohort"):
        with_distributed_dp(FedAvg(), **SERVER | wrong)
