"""Noise that rounds share: how much of it, what it costs, and that it survives a crash."""

import dp_accounting  # noqa: F401 - takes a second to load, and no test is to be charged for it
import numpy as np
import pytest

from umbel.base import ConfigError, Seeds
from umbel.privacy import (
    AdaptiveBound,
    BandedMatrix,
    GaussianEvent,
    MinSeparation,
    PerLayer,
    PrivacyLedger,
    TreeAggregation,
    event_from_json,
    gaussian_sigma,
)
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import FractionSampler, MinSeparationSampler, PoissonSampler, Run
from umbel.strategies import FedAvg, FedAvgM, FedMedian, with_compression, with_correlated_dp
from umbel.testing import FakeGrid, strategy_checks
from umbel.updates import TopK

ANY = {"min_train_nodes": 1, "min_available_nodes": 1, "fraction_evaluate": 0.0}
SOME = {"noise_multiplier": 1.0, "accountant": "rdp", "delta": 1e-6, "clipping": 2.0, "cohort": 4}
MATRICES = [BandedMatrix(8, 3), TreeAggregation(8), TreeAggregation(8, restart_every=4)]
RESTING = {"train_sampler": MinSeparationSampler(4), **ANY}


class CutOffError(Exception):
    pass


def client_that_adds(change):
    def client(message):
        arrays = {"w": message.content["arrays"]["w"].numpy() + np.float64(change)}
        records = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}
        return Message(RecordDict(records), reply_to=message)

    return client


def learn(strategy, change=0.0, *, size=3, nodes=8, run=None, rounds=8, **options):
    """Return the model after each round, the result, and the run."""
    seen = []
    grid = FakeGrid(client_that_adds(change), nodes, run or Run(seeds=Seeds(7), simulated=True))
    result = strategy.start(
        grid,
        ArrayRecord({"w": np.zeros(size)}),
        num_rounds=rounds,
        callbacks=lambda n, r: seen.append(np.array(r.arrays["w"].view())),
        **options,
    )
    return seen, result, grid.run


def spent(run):
    entries = [entry.data for entry in run.log.entries() if entry.event == "privacy_spent"]
    return [event_from_json(data["event"]) for data in entries]


def cost(*events):
    ledger = PrivacyLedger(None, 1e-6, accountant="rdp", adjacency="zero-out")
    for number, event in enumerate(events):
        ledger.spend((number,), event)
    return ledger.epsilon


@pytest.mark.parametrize("clipping", [2.0, PerLayer({"w": 2.0})])
@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_models_bear_the_noise_that_the_matrix_tells(matrix, clipping):
    strategy = with_correlated_dp(
        FedAvg(**RESTING), matrix=matrix, **SOME | {"noise_multiplier": 1.5, "clipping": clipping}
    )
    seen, _, _ = learn(strategy, size=20_000)
    one = 1.5 * matrix.sensitivity(MinSeparation(4)) * 2.0 / 4
    for model, variance in zip(seen, matrix.variances(), strict=True):
        assert model.var() == pytest.approx(one**2 * variance, rel=0.06)


@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_all_rounds_are_one_gaussian_release(matrix):
    strategy = with_correlated_dp(FedAvg(**RESTING), matrix=matrix, **SOME)
    _, result, run = learn(strategy, 1.0)
    (event,) = spent(run)
    assert event.sensitivity == matrix.sensitivity(MinSeparation(4))
    assert result.privacy.epsilon == pytest.approx(cost(GaussianEvent(1.0)))
    assert result.privacy.adjacency == "zero-out"
    assert "correlated over 8 rounds" in str(result.privacy)
    assert "each client at most every 4 rounds" in str(result.privacy)


def test_noise_for_an_epsilon_is_that_of_one_gaussian_release():
    chosen = {"noise_multiplier": gaussian_sigma(2.0, 1e-6, 1.0), "accountant": "pld"}
    strategy = with_correlated_dp(FedAvg(**RESTING), matrix=MATRICES[0], **SOME | chosen)
    _, result, _ = learn(strategy)
    assert result.privacy.epsilon == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(
    ("sampler", "separation"),
    [
        (MinSeparationSampler(4), 4),
        (MinSeparationSampler(2, size=1), 2),
        (FractionSampler(0.5), 1),
        (PoissonSampler(0.5), 1),
    ],
)
def test_a_client_is_accounted_for_as_often_as_the_sampler_lets_it_take_part(sampler, separation):
    matrix = BandedMatrix(8, 2)
    strategy = with_correlated_dp(FedAvg(train_sampler=sampler, **ANY), matrix=matrix, **SOME)
    _, result, run = learn(strategy)
    assert [e.sensitivity for e in spent(run)] == [matrix.sensitivity(MinSeparation(separation))]
    assert result.privacy.sampling.kind == "none"


def test_the_mean_of_clipped_updates_is_still_there():
    tiny = SOME | {"noise_multiplier": 1e-9, "clipping": 1.0}
    strategy = with_correlated_dp(FedAvg(**RESTING), matrix=BandedMatrix(8, 4), **tiny)
    seen, _, _ = learn(strategy, 10.0, size=4)
    # Two of eight nodes a round, clipped from (10, 10, 10, 10) to a norm of 1, over a cohort of 4.
    np.testing.assert_allclose(seen, np.outer(np.arange(1, 9), np.full(4, 0.25)), rtol=1e-6)


def test_a_round_in_which_it_is_nobody_s_turn_has_its_noise():
    matrix = BandedMatrix(8, 3)
    strategy = with_correlated_dp(FedAvg(**RESTING), matrix=matrix, **SOME)
    seen, _, run = learn(strategy, nodes=1, size=20_000)
    cohorts = [e for e in run.log.entries() if e.event == "phase_started"]
    assert len(cohorts) == 2  # of eight
    one = matrix.sensitivity(MinSeparation(4)) * 2.0 / 4
    assert seen[-1].var() == pytest.approx(one**2 * matrix.variances()[-1], rel=0.06)


def test_a_node_whose_turn_it_is_not_is_noticed():
    class Impatient(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            messages = list(super().configure_train(server_round, arrays, config, grid))
            for message in messages:
                message.metadata.dst_node_id = (message.metadata.dst_node_id + 1) % 8
            return messages

    strategy = with_correlated_dp(Impatient(**RESTING), matrix=BandedMatrix(8, 3), **SOME)
    with pytest.raises(ConfigError, match="not its turn"):
        learn(strategy)


def test_a_run_of_more_rounds_than_the_matrix_is_refused_before_its_first():
    strategy = with_correlated_dp(FedAvg(**RESTING), matrix=BandedMatrix(8, 3), **SOME)
    for refused in (strategy, with_compression(strategy, TopK(0.5))):
        run = Run(simulated=True)
        with pytest.raises(ConfigError, match="made for 8 rounds"):
            learn(refused, rounds=9, run=run)
        assert not list(run.log.entries())


def test_a_budget_that_is_too_small_ends_the_run_before_it_begins():
    strategy = with_correlated_dp(
        FedAvg(**RESTING), matrix=BandedMatrix(8, 3), **SOME, epsilon_budget=1.0
    )
    _, result, run = learn(strategy, 1.0)
    assert (result.rounds, result.stopped_early) == (0, True)
    assert not spent(run)
    assert not [e for e in run.log.entries() if e.event == "phase_started"]


def test_two_calls_of_start_are_two_releases_with_noise_of_their_own():
    strategy = with_correlated_dp(FedAvg(**RESTING), matrix=BandedMatrix(8, 3), **SOME)
    first, _, run = learn(strategy)
    second, result, _ = learn(strategy, run=run)
    assert result.privacy.epsilon == pytest.approx(cost(*[GaussianEvent(1.0)] * 2))
    assert not np.intersect1d(first, second).size


@pytest.fixture
def cut_and_resumed(tmp_path):
    """Return a function that cuts a run off just before a release, and resumes it."""

    def learned(matrix, before, after, at=("noise_added", 5)):
        def cut(event):
            if (event.name, event.data.get("round")) == at:
                raise CutOffError

        budget = cost(GaussianEvent(1.0)) + (0.01 if before == after else 9.0)
        options = {"matrix": matrix, "epsilon_budget": budget, **SOME}
        strategy = [with_correlated_dp(FedAvgM(**RESTING), **options) for _ in "12"]
        run = Run("r", Seeds(7), {}, tmp_path, [cut], resumable=True, simulated=True)
        run.log.append("run_started", run_id="r", seed=7, run_config={})
        with pytest.raises(CutOffError):
            learn(strategy[0], before, run=run)
        run.close()
        again = Run(folder=tmp_path, resume=True, simulated=True)
        outcome = learn(strategy[1], after, run=again)
        again.close()
        return outcome

    return learned


@pytest.mark.parametrize("at", [("noise_added", 5), ("privacy_spent", 1), ("noise_added", 1)])
@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_a_run_that_is_cut_off_goes_on_with_the_same_bits_and_spends_no_more(
    matrix, at, cut_and_resumed
):
    strategy = with_correlated_dp(FedAvgM(**RESTING), matrix=matrix, **SOME)
    seen, whole, run = learn(strategy, 0.5)
    rest, result, again = cut_and_resumed(matrix, 0.5, 0.5, at)
    assert [m.tobytes() for m in rest] == [m.tobytes() for m in seen[at[1] - 1 :]]
    assert spent(again) == spent(run)
    assert result.privacy == whole.privacy


@pytest.mark.parametrize("matrix", MATRICES, ids=repr)
def test_another_sum_after_a_crash_has_other_noise_and_is_paid_for(matrix, cut_and_resumed):
    _, result, run = cut_and_resumed(matrix, 0.5, 0.25)
    all_rounds, again = spent(run)
    participation = MinSeparation(4)
    assert again.noise_multiplier * matrix.repeat_sensitivity(participation) == pytest.approx(
        all_rounds.noise_multiplier
    )
    assert result.privacy.epsilon == pytest.approx(cost(GaussianEvent(1.0), again))
    salts = [e.data["salt"] for e in run.log.entries() if e.event == "noise_added"]
    assert len(set(salts)) == len(salts) == 9


def test_a_history_that_changed_changes_all_noise_that_comes_after(tmp_path):
    """The sums of round 6 are equal here; what is hidden with their noise is not."""

    def salts(first_change):
        change = [first_change]

        def client(message):
            return client_that_adds(change[0])(message)

        def move_on(number, result):
            change[0] = 0.0

        strategy = with_correlated_dp(FedAvg(**RESTING), matrix=BandedMatrix(8, 3), **SOME)
        grid = FakeGrid(client, 8, Run(seeds=Seeds(7), simulated=True))
        initial = ArrayRecord({"w": np.zeros(3)})
        strategy.start(grid, initial, num_rounds=3, callbacks=move_on)
        events = [e for e in grid.run.log.entries() if e.event == "noise_added"]
        return [e.data["salt"] for e in events]

    assert salts(1.0) == salts(1.0)
    assert all(a != b for a, b in zip(salts(1.0), salts(0.5), strict=True))


@pytest.mark.parametrize(
    "wrong", [{"clipping": AdaptiveBound()}, {"noise_multiplier": 0.0}, {"cohort": 0}]
)
def test_parameters_that_make_no_sense(wrong):
    with pytest.raises(ConfigError):
        with_correlated_dp(FedAvg(), matrix=BandedMatrix(8, 3), **SOME | wrong)


def test_what_is_no_mean_is_refused():
    strategy = with_correlated_dp(
        FedMedian(**RESTING), matrix=BandedMatrix(8, 3), **SOME | {"clipping": 1.0}
    )
    with pytest.raises(ConfigError):
        learn(strategy)


CHECKS = dict(strategy_checks())


@pytest.mark.parametrize("name", sorted(CHECKS.keys() - {"zero_update", "same_bits_on_backends"}))
def test_the_contract_of_strategies_holds(name):
    inner = FedAvgM(train_sampler=MinSeparationSampler(2), min_available_nodes=1)
    CHECKS[name](with_correlated_dp(inner, matrix=BandedMatrix(20, 3), **SOME))


@pytest.mark.slow
def test_noise_is_the_same_on_all_backends():
    strategy = with_correlated_dp(FedAvg(0.5), matrix=TreeAggregation(20), **SOME)
    CHECKS["same_bits_on_backends"](strategy)
