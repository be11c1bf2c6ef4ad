"""A private run's ledger: it stops before the budget, and a crash spends nothing twice."""

import dp_accounting  # noqa: F401 - takes a second to load, and no test is to be charged for it
import numpy as np
import pytest

from umbel.base import ConfigError, Seeds
from umbel.privacy import AdaptiveBound, GaussianEvent, PrivacyLedger
from umbel.records import ArrayRecord
from umbel.serverapp import Run
from umbel.strategies import FedAdam, FedAvg, with_central_dp

ANY = {"min_train_nodes": 1, "min_available_nodes": 1, "fraction_evaluate": 0.0}
SOME = {"noise_multiplier": 1.0, "accountant": "rdp", "delta": 1e-6, "clipping": 2.0, "cohort": 4}


def zeros(count):
    return ArrayRecord({"w": np.zeros(count, np.float32)})


def spent(run):
    return [entry.data for entry in run.log.entries() if entry.event == "privacy_spent"]


def of(result):
    return result.arrays["w"].view()


def test_the_run_ends_before_the_round_that_would_exceed_the_budget(learn, moving):
    def strategy(budget):
        return with_central_dp(FedAvg(**ANY), **SOME, epsilon_budget=budget)

    client = moving(lambda node: 1.0)
    cost = PrivacyLedger(None, 1e-6, accountant="rdp", adjacency="zero-out")
    budget = cost.would_spend(GaussianEvent(1.0), 3) + 0.01
    result, run = learn(strategy(budget), client, zeros(2), rounds=9)
    assert (result.rounds, result.stopped_early) == (3, True)
    assert result.privacy.epsilon <= budget < cost.would_spend(GaussianEvent(1.0), 4)
    told = [e.data for e in run.log.entries() if e.event == "privacy_budget_exhausted"]
    assert [data["round"] for data in told] == [4]
    assert "over the budget" in told[0]["reason"]
    # No message of the round that may not be went out, and the rest is as without a budget.
    assert [e.data["round"] for e in run.log.entries() if e.event == "phase_started"] == [1, 2, 3]
    run = Run(seeds=run.seeds, simulated=True)
    assert of(learn(strategy(None), client, zeros(2), rounds=3, run=run)[0]).tolist() == (
        of(result).tolist()
    )


def test_all_that_a_run_releases_adds_up(learn, moving):
    strategy = with_central_dp(FedAvg(**ANY), **SOME)
    run = Run(simulated=True)
    for _ in range(2):
        result, _ = learn(strategy, moving(lambda node: 1.0), zeros(2), rounds=2, run=run)
    alone, _ = learn(strategy, moving(lambda node: 1.0), zeros(2), rounds=4)
    assert result.privacy.epsilon == alone.privacy.epsilon
    other = with_central_dp(FedAvg(0.5, **ANY), **SOME)
    with pytest.raises(ConfigError, match="do not add up"):
        learn(other, moving(lambda node: 1.0), zeros(2), run=run)


class CutOffError(Exception):
    """Ends a run where its machine would have lost power."""


@pytest.fixture
def deployed(tmp_path):
    """Return a function that opens a run whose secrets are true ones, again and again."""

    def make(event=None, number=2):
        def watch(heard):
            if heard.name == event and heard.data.get("round") == number:
                raise CutOffError

        first = not (tmp_path / "log.jsonl").exists()
        run = Run(
            seeds=Seeds(7),
            folder=tmp_path,
            observers=[watch],
            resumable=True,
            resume=not first,
        )
        if first:
            run.emit("run_started", run_id=run.run_id, seed=7, run_config={})
        opened.append(run)
        return run

    opened = []
    yield make
    for run in opened:
        run.close()


@pytest.mark.parametrize("event", ["phase_started", "privacy_spent", "phase_finished"])
def test_what_is_done_again_is_the_same_release(learn, moving, deployed, event):
    def run(run, models):
        return learn(
            with_central_dp(FedAvg(**ANY), **SOME),
            moving(lambda node: 1.0),
            zeros(3),
            rounds=4,
            run=run,
            callbacks=lambda number, result: models.setdefault(number, of(result).tolist()),
            evaluate_fn=lambda number, arrays: seen.append((number, arrays["w"].view().tolist())),
        )

    seen, models = [], {}
    cut = deployed(event)
    with pytest.raises(CutOffError):
        run(cut, models)
    cut.close()
    result, again = run(deployed(), models)
    assert [data["round"] for data in spent(again)] == [1, 2, 3, 4]
    cost = PrivacyLedger(None, 1e-6, accountant="rdp", adjacency="zero-out")
    assert result.privacy.epsilon == pytest.approx(cost.would_spend(GaussianEvent(1.0), 4))
    assert result.privacy.noise_randomness == "cryptographic"


def test_a_model_that_was_seen_before_the_crash_is_seen_again(learn, moving, deployed):
    seen = []

    def evaluate(number, arrays):
        seen.append((number, arrays["w"].view().tolist()))
        if len(seen) == 3:
            raise CutOffError

    def run(run):
        return learn(
            with_central_dp(FedAdam(**ANY), **SOME | {"clipping": AdaptiveBound(), "cohort": 40}),
            moving(lambda node: 1.0),
            zeros(3),
            nodes=40,
            rounds=3,
            run=run,
            evaluate_fn=evaluate,
        )

    cut = deployed()
    with pytest.raises(CutOffError):
        run(cut)
    cut.close()
    run(deployed())
    assert [number for number, _ in seen] == [0, 1, 2, 2, 3]
    assert seen[2] == seen[3]
    assert len({str(model) for _, model in seen}) == 4


def test_other_replies_after_the_crash_are_another_release_with_other_noise(
    learn, moving, deployed
):
    size, seen = 20_000, []

    def run(run, lost=()):
        def client(message):
            if message.metadata.dst_node_id in lost:
                raise OSError("it is gone")
            return moving(lambda node: 0.0)(message)

        def evaluate(number, arrays):
            seen.append(arrays["w"].view().copy())
            if not lost and number == 1:
                raise CutOffError

        strategy = with_central_dp(FedAvg(**ANY), **SOME, epsilon_budget=1000.0)
        return learn(strategy, client, zeros(size), run=run, evaluate_fn=evaluate)

    cut = deployed()
    with pytest.raises(CutOffError):
        run(cut)
    cut.close()
    result, again = run(deployed(), lost=[3])
    first, second = seen[1:]
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(size)
    assert [data["round"] for data in spent(again)] == [1, 1]
    cost = PrivacyLedger(None, 1e-6, accountant="rdp", adjacency="zero-out")
    assert result.privacy.epsilon == pytest.approx(cost.would_spend(GaussianEvent(1.0), 2))


def test_a_second_release_that_is_over_the_budget_is_not_made(learn, moving, deployed):
    cost = PrivacyLedger(None, 1e-6, accountant="rdp", adjacency="zero-out")
    budget = cost.would_spend(GaussianEvent(1.0), 2) + 0.01

    def run(run, change):
        def evaluate(number, arrays):
            if number == 2:
                raise CutOffError

        strategy = with_central_dp(FedAvg(**ANY), **SOME, epsilon_budget=budget)
        client = moving(lambda node: change)
        return learn(strategy, client, zeros(3), run=run, rounds=5, evaluate_fn=evaluate)

    cut = deployed()
    with pytest.raises(CutOffError):
        run(cut, 0.5)
    cut.close()
    result, again = run(deployed(), 0.25)
    assert (result.rounds, result.stopped_early) == (1, True)
    assert len(spent(again)) == 2
    assert result.privacy is None or result.privacy.epsilon <= budget


def test_only_a_simulation_repeats_its_noise_and_its_cohorts(learn, moving):
    def outcome(**options):
        strategy = with_central_dp(FedAvg(0.5, **ANY), **SOME)
        run = Run(seeds=Seeds(7), **options)
        result, run = learn(strategy, moving(lambda n: 0), zeros(3), nodes=60, run=run)
        (cohort,) = [e.data["nodes"] for e in run.log.entries() if e.event == "phase_started"]
        return of(result).tolist(), cohort

    assert outcome(simulated=True) == outcome(simulated=True)
    one, other = outcome(), outcome()
    assert one[0] != other[0]
    assert one[1] != other[1]
