"""Central differential privacy: the noise, the bound on one client, the sampling, the ledger."""

import dp_accounting  # noqa: F401 - takes a second to load, and no test is to be charged for it
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import ConfigError
from umbel.clientapp import compression_mod
from umbel.privacy import (
    AdaptiveBound,
    FixedSize,
    GaussianEvent,
    NoAmplification,
    PerLayer,
    Poisson,
    PrivacyLedger,
)
from umbel.records import ArrayRecord, Message, MetricRecord
from umbel.serverapp import FractionSampler, PoissonSampler
from umbel.strategies import (
    FedAdam,
    FedAvg,
    FedBN,
    FedMedian,
    FedProx,
    PowerOfChoice,
    Scaffold,
    with_central_dp,
    with_compression,
)
from umbel.testing import strategy_checks
from umbel.updates import TopK

ANY = {"min_train_nodes": 1, "min_available_nodes": 1, "fraction_evaluate": 0.0}
NO_NOISE = {"noise_multiplier": 1e-9, "accountant": "rdp", "delta": 1e-6}
SOME = {"noise_multiplier": 1.0, "accountant": "rdp", "delta": 1e-6, "clipping": 2.0, "cohort": 4}


def zeros(count, dtype=np.float32):
    return ArrayRecord({"w": np.zeros(count, dtype)})


def spent(run):
    return [entry.data for entry in run.log.entries() if entry.event == "privacy_spent"]


def of(result):
    return result.arrays["w"].view()


@pytest.mark.parametrize("clipping", [2.0, PerLayer({"w": 2.0})])
def test_the_noise_is_what_it_is_said_to_be(learn, moving, clipping):
    count, noise, cohort = 200_000, 1.5, 5
    strategy = with_central_dp(
        FedAvg(**ANY), **SOME | {"noise_multiplier": noise, "cohort": cohort, "clipping": clipping}
    )
    still = moving(lambda node: 0.0)
    seen = [zeros(count)]
    learn(strategy, still, seen[0], rounds=2, callbacks=lambda n, r: seen.append(r.arrays))
    models = [model["w"].view() for model in seen]
    first, second = models[1] - models[0], models[2] - models[1]
    expected = noise * 2.0 / cohort
    for drawn in (first, second):
        assert abs(drawn.std() / expected - 1) < 5 / np.sqrt(2 * count)
        assert abs(drawn.mean()) < 5 * expected / np.sqrt(count)
        assert abs((np.abs(drawn) < expected).mean() - 0.6827) < 5 * 0.47 / np.sqrt(count)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(count)


numbers = st.floats(width=64, allow_nan=True, allow_infinity=True)


@given(
    change=st.lists(numbers, min_size=3, max_size=3),
    other=st.one_of(st.none(), st.lists(numbers, min_size=3, max_size=3)),
    weight=st.one_of(st.floats(), st.integers(-1, 10**18)),
    clipping=st.floats(1e-3, 1e3),
)
def test_one_client_moves_the_outcome_by_the_bound(learn, moving, change, other, weight, clipping):
    """Whatever it sends, or if it sends nothing; the two others do the same all the time."""

    def outcome(of_the_one):
        def client(message):
            node = message.metadata.dst_node_id
            if node == 1 and of_the_one is None:
                raise OSError("it left")
            step = of_the_one if node == 1 else [node - 1.0, 0.5, clipping]
            told = {"num-examples": weight if node == 1 else 3}
            content = moving(lambda node: step)(message)
            content["metrics"] = MetricRecord(told)
            return content

        with np.errstate(all="ignore"):
            strategy = with_central_dp(FedAvg(**ANY), clipping=clipping, cohort=5, **NO_NOISE)
            return of(learn(strategy, client, zeros(3, np.float64), nodes=3)[0])

    allowed = clipping / 5 * (1 + 1e-6)
    assert np.linalg.norm(outcome(change) - outcome(None)) <= allowed
    assert np.linalg.norm(outcome(change) - outcome(other)) <= 2 * allowed


def test_what_a_client_says_of_its_weight_does_not_count(learn, moving):
    def outcome(weight):
        client = moving(lambda node: node, **{"num-examples": weight})
        strategy = with_central_dp(FedAvg(**ANY), clipping=100.0, cohort=4, **NO_NOISE)
        return of(learn(strategy, client, zeros(2))[0])

    assert outcome(1).tolist() == outcome(10**9).tolist()
    np.testing.assert_allclose(outcome(1), 1.5, rtol=1e-5)


def test_the_mean_is_over_the_cohort_that_was_expected(learn, moving):
    strategy = with_central_dp(FedAvg(**ANY), clipping=100.0, cohort=8, **NO_NOISE)
    result, _ = learn(strategy, moving(lambda node: 1.0), zeros(2))
    np.testing.assert_allclose(of(result), 4 / 8, rtol=1e-5)


def test_whole_numbers_stay_and_statistics_are_noised(learn, moving):
    initial = ArrayRecord(
        {
            "w": np.zeros(3, np.float16),
            "steps": np.array(5),
            "bn.running_mean": np.zeros(3, np.float32),
            "mask": np.array([True, False]),
        }
    )

    def client(message):
        content = moving(lambda node: 1.0)(message)
        content["arrays"]["steps"] = np.array(900)
        return content

    result, _ = learn(with_central_dp(FedAvg(**ANY), **SOME), client, initial)
    assert int(result.arrays["steps"].view()) == 5
    assert result.arrays["mask"].view().tolist() == [True, False]
    assert np.all(result.arrays["bn.running_mean"].view() != 0)
    assert {key: array.dtype for key, array in result.arrays.items()} == {
        key: array.dtype for key, array in initial.items()
    }


def test_complex_numbers_are_refused(learn, moving):
    strategy = with_central_dp(FedAvg(**ANY), **SOME)
    with pytest.raises(ConfigError, match="complex numbers are neither"):
        learn(strategy, moving(lambda node: 0), zeros(2, np.complex64))


@pytest.mark.parametrize(
    ("options", "sampling", "adjacency"),
    [
        ({"train_sampler": PoissonSampler(0.5)}, Poisson(0.5), "add-or-remove-one"),
        ({"fraction_train": 0.25}, FixedSize(5, 20), "replace-one"),
        ({"train_sampler": FractionSampler(0.1, 3)}, FixedSize(3, 20), "replace-one"),
        ({}, NoAmplification(), "zero-out"),
        ({"train_sampler": lambda grid, seeds: [0, 1]}, NoAmplification(), "zero-out"),
    ],
)
def test_the_sampling_that_is_claimed_is_that_which_happens(
    learn, moving, options, sampling, adjacency
):
    strategy = with_central_dp(FedAvg(**ANY | options), **SOME | {"accountant": None})
    result, run = learn(strategy, moving(lambda node: 1.0), zeros(2), nodes=20, rounds=3)
    expected = PrivacyLedger(
        None, 1e-6, accountant="rdp" if adjacency == "replace-one" else "pld", adjacency=adjacency
    ).would_spend(GaussianEvent(1.0, sampling), 3)
    assert result.privacy.epsilon == pytest.approx(expected)
    assert (result.privacy.sampling, result.privacy.adjacency) == (sampling, adjacency)
    assert [entry["round"] for entry in spent(run)] == [1, 2, 3]


class Elsewhere(FedAvg):
    """Leaves the first of those chosen out."""

    def configure_train(self, server_round, arrays, config, grid):
        return list(super().configure_train(server_round, arrays, config, grid))[1:]


class Twice(FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        for _ in range(2):
            yield from super().configure_train(server_round, arrays, config, grid)


def test_a_strategy_that_chooses_beside_its_sampler_is_refused(learn, moving):
    for options in ({"fraction_train": 0.5}, {"train_sampler": PoissonSampler(0.9)}):
        strategy = with_central_dp(Elsewhere(**ANY | options), **SOME)
        with pytest.raises(ConfigError, match="sends to other nodes than"):
            learn(strategy, moving(lambda node: 1.0), zeros(2))
    # Where no chance is counted on, it may.
    learn(with_central_dp(Elsewhere(**ANY), **SOME), moving(lambda node: 1.0), zeros(2))
    with pytest.raises(ConfigError, match="a node gets two messages"):
        learn(with_central_dp(Twice(**ANY), **SOME), moving(lambda node: 1.0), zeros(2))


def test_a_cohort_of_nobody_does_not_show(learn, moving):
    strategy = with_central_dp(FedAvg(train_sampler=PoissonSampler(0.2), **ANY), **SOME)
    models = [zeros(4)]
    result, run = learn(
        strategy,
        moving(lambda node: 0.0),
        models[0],
        rounds=12,
        callbacks=lambda number, result: models.append(result.arrays),
    )
    trained = {e.data["round"] for e in run.log.entries() if e.event == "phase_started"}
    assert 0 < len(trained) < 12
    assert len({model["w"].view().tobytes() for model in models}) == 13
    assert len(spent(run)) == 12
    assert not result.failures


def test_a_phase_that_is_left_out_releases_nothing(learn, moving):
    strategy = with_central_dp(FedAvg(fraction_train=0.0, fraction_evaluate=0.0), **SOME)
    result, run = learn(strategy, moving(lambda node: 0.0), zeros(2), rounds=2)
    assert not of(result).any()
    assert not spent(run)
    assert result.privacy is None


@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_an_adaptive_bound_reaches_the_median_norm(learn, moving, factor):
    norms = np.linspace(1.0, 3.0, 25)
    bound = AdaptiveBound(bound=2.0 * factor)
    strategy = with_central_dp(
        FedAvg(**ANY), **SOME | {"noise_multiplier": 0.3, "cohort": 25, "clipping": bound}
    )
    bounds = []
    learn(
        strategy,
        moving(lambda node: [norms[node], 0.0]),
        zeros(2),
        nodes=25,
        rounds=90,
        callbacks=lambda number, result: bounds.append(strategy.clipping.bound),
    )
    assert abs(np.median(bounds[-30:]) - 2.0) < 0.2


def test_the_bound_is_part_of_the_state(learn, moving):
    def make():
        return with_central_dp(FedAvg(**ANY), **SOME | {"clipping": AdaptiveBound(), "cohort": 60})

    one, other = make(), make()
    learn(one, moving(lambda node: 1.0), zeros(2))
    assert one.clipping.bound != 0.1
    other.load_state_dict(one.state_dict())
    assert other.clipping == one.clipping


@pytest.mark.parametrize("make", [FedAvg, FedAdam, lambda **o: FedProx(proximal_mu=0.1, **o)])
def test_without_noise_and_bound_it_is_the_strategy_inside(learn, moving, make):
    client = moving(lambda node: [0.5, node])
    private = with_central_dp(make(**ANY), clipping=1e6, cohort=4, **NO_NOISE | {"delta": 1e-9})
    expected, _ = learn(make(**ANY), client, zeros(2, np.float64), rounds=3)
    got, _ = learn(private, client, zeros(2, np.float64), rounds=3)
    np.testing.assert_allclose(of(got), of(expected), atol=2e-3)


def test_personal_arrays_stay_with_the_clients(learn, moving):
    def client(message):
        content = moving(lambda node: 1.0)(message)
        del content["arrays"]["bn.weight"]
        return content

    initial = ArrayRecord({"w": np.zeros(2), "bn.weight": np.ones(2)})
    strategy = with_central_dp(FedBN(**ANY), clipping=100.0, cohort=4, **NO_NOISE)
    result, _ = learn(strategy, client, initial)
    assert not result.failures
    np.testing.assert_allclose(of(result), 1.0, rtol=1e-5)
    assert result.arrays["bn.weight"].view().tolist() == [1, 1]


@pytest.fixture
def compressing(moving):
    """Return a client that sends half of an update of norm 9."""

    def client(message, context):
        def train(message, context):
            return Message(moving(lambda node: [9, 0])(message), reply_to=message)

        mod = compression_mod(TopK(0.5), error_feedback=False)
        return mod(message, context, train).content

    return client


def test_compressed_updates_are_clipped_when_they_are_expanded(federate, compressing):
    inner = with_central_dp(FedAvg(**ANY), clipping=2.0, cohort=4, **NO_NOISE)
    strategy = with_compression(inner, TopK(0.5))
    initial = ArrayRecord({"w": np.full(2, 7.0, np.float32)})
    result = federate(strategy, compressing, initial=initial, num_rounds=2)
    np.testing.assert_allclose(of(result), [7 + 2 * 2.0, 7], rtol=1e-5)
    assert result.privacy is not None


@pytest.mark.slow
def test_compressed_updates_are_clipped_by_workers_too(federate, compressing):
    def run(backend):
        inner = with_central_dp(FedAvg(**ANY), **SOME)
        initial = ArrayRecord({"w": np.full(2, 7.0, np.float32), "bn.running_mean": np.ones(2)})
        strategy = with_compression(inner, TopK(0.5))
        return federate(strategy, compressing, initial=initial, num_rounds=2, backend=backend)

    expected, got = run("inprocess").arrays, run("processes").arrays
    for key, array in expected.items():
        assert array.view().tobytes() == got[key].view().tobytes(), key


def test_metrics_are_withheld(learn, moving):
    client = moving(lambda node: 1.0, loss=0.25)
    result, _ = learn(with_central_dp(FedAvg(**ANY), **SOME), client, zeros(2))
    assert not result.train_metrics_clientapp[1]
    assert "training metrics" not in str(result.privacy)
    strategy = with_central_dp(FedAvg(**ANY), **SOME, release_metrics=True)
    result, _ = learn(strategy, client, zeros(2))
    assert dict(result.train_metrics_clientapp[1]) == {"loss": 0.25}
    assert "Not covered: the clients' training metrics" in str(result.privacy)


def test_a_function_of_all_metrics_is_refused_unless_they_are_released(learn, moving):
    def count(replies, weighted_by):
        return MetricRecord({"replies": len(replies)})

    inner = FedAvg(train_metrics_aggr_fn=count, **ANY)
    with pytest.raises(ConfigError, match="which are withheld"):
        learn(with_central_dp(inner, **SOME), moving(lambda node: 1.0), zeros(2))
    strategy = with_central_dp(inner, **SOME, release_metrics=True)
    result, _ = learn(strategy, moving(lambda node: 1.0), zeros(2))
    assert dict(result.train_metrics_clientapp[1]) == {"replies": 4}


@pytest.mark.parametrize(
    "make",
    [
        lambda: FedMedian(**ANY),
        lambda: Scaffold(**ANY),
        lambda: with_compression(FedAvg(**ANY), TopK(0.5)),
    ],
)
def test_folds_without_a_bound_on_one_client_are_refused(learn, make):
    asked = []
    strategy = with_central_dp(make(), **SOME)
    with pytest.raises(ConfigError, match="not by a weighted mean"):
        learn(strategy, asked.append, zeros(2))
    assert not asked


def test_a_choice_by_the_clients_data_is_refused():
    with pytest.raises(ConfigError, match="before it chooses"):
        with_central_dp(PowerOfChoice(num_candidates=3, num_selected=2), **SOME)


class ByHand(FedAvg):
    def aggregate_train(self, server_round, replies):
        return super().aggregate_train(server_round, replies)


def test_replies_that_others_aggregate_are_refused():
    with pytest.raises(ConfigError, match="overrides aggregate_train"):
        with_central_dp(ByHand(**ANY), **SOME)


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": float("nan")},
        {"clipping": -1.0},
        {"clipping": float("inf")},
        {"cohort": 0},
        {"delta": 1.0},
        {"epsilon_budget": 0.0},
        {"clipping": AdaptiveBound(count_sigma=0.1)},
    ],
)
def test_numbers_without_meaning_are_refused(wrong):
    with pytest.raises(ConfigError):
        with_central_dp(FedAvg(**ANY), **SOME | wrong)


CHECKS = dict(strategy_checks())


@pytest.mark.parametrize("name", sorted(CHECKS.keys() - {"zero_update", "same_bits_on_backends"}))
def test_the_contract_of_strategies_holds_with_noise_too(name):
    inner = FedAdam(train_sampler=PoissonSampler(0.7), min_available_nodes=1)
    CHECKS[name](with_central_dp(inner, **SOME | {"clipping": AdaptiveBound(), "cohort": 60}))


@pytest.mark.slow
def test_noise_is_the_same_on_all_backends():
    CHECKS["same_bits_on_backends"](with_central_dp(FedAvg(0.5), **SOME))
