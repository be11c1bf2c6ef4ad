"""What could slip past the accounting: other calls of start, crashes, choices, what is inside."""

import dp_accounting  # noqa: F401 - takes a second to load, and no test is to be charged for it
import numpy as np
import pytest

from umbel.base import ConfigError, Seeds
from umbel.privacy import GaussianEvent, NoAmplification, Poisson, PrivacyLedger
from umbel.records import ArrayRecord, ConfigRecord, Message, RecordDict
from umbel.serverapp import PoissonSampler, Run
from umbel.strategies import (
    FedAvg,
    PowerOfChoice,
    with_central_dp,
    with_example_dp,
    with_local_dp,
)

ANY = {"min_train_nodes": 1, "min_available_nodes": 1, "fraction_evaluate": 0.0}
SOME = {"noise_multiplier": 1.0, "accountant": "rdp", "delta": 1e-6, "clipping": 2.0, "cohort": 4}
LOCAL = {"noise_multiplier": 1.0, "accountant": "rdp", "delta": 1e-6, "clipping": 2.0}
EXAMPLES = {
    "noise_multiplier": 1.0,
    "sampling_rate": 0.1,
    "steps": 3,
    "max_norm": 1.0,
    "delta": 1e-6,
    "accountant": "rdp",
}
BESIDES = "the models of calls of strategy.start without noise"


def zeros(count):
    return ArrayRecord({"w": np.zeros(count, np.float32)})


def entries(run, event):
    return [entry.data for entry in run.log.entries() if entry.event == event]


def cohorts(run):
    return [data["nodes"] for data in entries(run, "phase_started")]


@pytest.mark.parametrize("simulated", [True, False])
def test_each_call_of_start_draws_cohorts_of_its_own(learn, moving, simulated):
    # Accounting adds up independent samples; the same one twice would cost more.
    strategy = with_central_dp(FedAvg(train_sampler=PoissonSampler(0.5), **ANY), **SOME)
    run = Run(seeds=Seeds(7), simulated=simulated)
    for _ in range(2):
        learn(strategy, moving(lambda node: 0.0), zeros(2), nodes=60, rounds=2, run=run)
    assert len({tuple(nodes) for nodes in cohorts(run)}) == 4


def test_a_look_at_data_is_seen_through_other_wrappers():
    inner = with_example_dp(PowerOfChoice(num_candidates=3, num_selected=2), **EXAMPLES)
    with pytest.raises(ConfigError, match="before it chooses"):
        with_central_dp(inner, **SOME)


class Asking(FedAvg):
    """Asks its nodes something before it chooses, without saying that it does."""

    def configure_train(self, server_round, arrays, config, grid):
        question = RecordDict({"config": ConfigRecord({"what": "loss"})})
        grid.send_and_receive([Message(question, node, "query") for node in grid.get_node_ids()])
        return super().configure_train(server_round, arrays, config, grid)


class Pushing(FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        grid.push_messages([Message(RecordDict({"config": config}), 0, "query")])
        return super().configure_train(server_round, arrays, config, grid)


@pytest.mark.parametrize("kind", [Asking, Pushing])
def test_a_strategy_that_asks_before_it_chooses_is_refused(learn, moving, kind):
    with pytest.raises(ConfigError, match="before it chooses"):
        learn(with_central_dp(kind(**ANY), **SOME), moving(lambda node: 0.0), zeros(2))


class Counting(FedAvg):
    """Steps further the more replies there are."""

    def finish_train(self, server_round, value):
        self.count, self.weight = value.count, value.weight
        return super().finish_train(server_round, value)


def test_the_strategy_inside_does_not_hear_how_many_there_were(learn, moving):
    inner = Counting(train_sampler=PoissonSampler(0.5), **ANY)
    learn(with_central_dp(inner, **SOME | {"cohort": 31}), moving(lambda node: 0.0), zeros(2))
    assert (inner.count, inner.weight) == (31, 31)


def test_models_of_another_call_without_noise_are_not_covered(learn, moving):
    run, client = Run(simulated=True), moving(lambda node: 1.0)
    first, _ = learn(with_central_dp(FedAvg(**ANY), **SOME), client, zeros(2), run=run)
    assert BESIDES not in first.privacy.not_covered
    learn(FedAvg(**ANY), client, zeros(2), run=run)
    last, _ = learn(with_central_dp(FedAvg(**ANY), **SOME), client, zeros(2), run=run)
    assert BESIDES in last.privacy.not_covered
    assert BESIDES in entries(run, "privacy_spent")[-1]["statement"]["not_covered"]


def test_examples_and_clients_are_counted_apart(learn, moving):
    client = moving(lambda node: 1.0)
    inner = with_example_dp(FedAvg(train_sampler=PoissonSampler(0.9), **ANY), **EXAMPLES)
    strategy, run = with_central_dp(inner, **SOME), Run(simulated=True)
    result, _ = learn(strategy, client, zeros(2), rounds=3, run=run)
    of_client = PrivacyLedger(None, 1e-6, accountant="rdp")
    expected = of_client.would_spend(GaussianEvent(1.0, Poisson(0.9)), 3)
    assert (result.privacy.unit, result.privacy.epsilon) == ("client", pytest.approx(expected))
    told = [data for data in entries(run, "privacy_spent") if data["statement"]["unit"] == "record"]
    of_example = PrivacyLedger(None, 1e-6, accountant="rdp")
    expected = of_example.would_spend(GaussianEvent(1.0, Poisson(0.1)), 9)
    assert told[-1]["epsilon"] == pytest.approx(expected)
    # What is released later about clients tells of their examples as well; and the examples of
    # clients that are protected alone are no clients that are.
    learn(with_central_dp(inner.inner, **SOME), client, zeros(2), rounds=1, run=run)
    later, _ = learn(with_example_dp(FedAvg(**ANY), **EXAMPLES), client, zeros(2), run=run)
    of_example.spend(("a",), GaussianEvent(1.0, Poisson(0.1)), 12)
    assert later.privacy.epsilon == pytest.approx(
        of_example.would_spend(GaussianEvent(1.0, Poisson(0.9)), 1)
    )
    last, _ = learn(with_central_dp(inner.inner, **SOME), client, zeros(2), run=run)
    assert BESIDES in last.privacy.not_covered


def test_wrappers_of_both_kinds_go_together_without_sampling(learn, moving):
    inner = with_example_dp(FedAvg(**ANY), **EXAMPLES)
    result, _ = learn(with_central_dp(inner, **SOME), moving(lambda node: 1.0), zeros(2), rounds=3)
    assert result.rounds == 3


@pytest.mark.parametrize("wrong", [["a", "b"], np.zeros(2, "M8[s]"), np.ones(2) * 1j])
def test_what_are_no_real_numbers_is_left_out(learn, moving, wrong):
    def client(message):
        content = moving(lambda node: 1.0)(message)
        if message.metadata.dst_node_id == 1:
            content["arrays"]["w"] = np.asarray(wrong)
        return content

    result, _ = learn(with_central_dp(FedAvg(**ANY), **SOME), client, zeros(2))
    assert [failure.node_id for failure in result.failures] == [1]
    assert "not real numbers" in result.failures[0].message


class CutOffError(Exception):
    """Ends a run where its machine would have lost power."""


@pytest.fixture
def deployed(tmp_path):
    """Return a function that opens a run whose secrets are true ones, again and again."""

    def make(event=None):
        def watch(heard):
            if heard.name == event:
                raise CutOffError

        first = not (tmp_path / "log.jsonl").exists()
        run = Run(
            seeds=Seeds(7), folder=tmp_path, observers=[watch], resumable=True, resume=not first
        )
        if first:
            run.emit("run_started", run_id=run.run_id, seed=7, run_config={})
        opened.append(run)
        return run

    opened = []
    yield make
    for run in opened:
        run.close()


@pytest.fixture
def resumed(learn, moving, deployed):
    """Return a function that is cut off, and goes on with another strategy or other nodes."""

    def run(before, after, event="phase_finished", nodes=(4, 4), steps=(1.0, 1.0), rounds=1):
        cut = deployed(event)
        with pytest.raises(CutOffError):
            learn(before, moving(lambda node: steps[0]), zeros(3), nodes=nodes[0], run=cut)
        cut.close()
        client = moving(lambda node: steps[1])
        return learn(after, client, zeros(3), nodes=nodes[1], rounds=rounds, run=deployed())

    return run


@pytest.mark.parametrize("changed", [{"cohort": 8}, {"noise_multiplier": 2.0}])
def test_a_run_that_goes_on_with_other_numbers_draws_other_noise(resumed, changed):
    # The same sum under the same noise at two scales would give both away.
    before, after = (with_central_dp(FedAvg(**ANY), **SOME | other) for other in ({}, changed))
    _, run = resumed(before, after)
    keys = [tuple(data["key"]) for data in entries(run, "privacy_spent")]
    assert len(set(keys)) == len(keys) == 2


def test_a_second_release_of_a_round_counts_on_no_chance(resumed):
    # The cohort is drawn by the same secret again: who is in one release is in the other.
    def strategy():
        return with_central_dp(FedAvg(train_sampler=PoissonSampler(0.9), **ANY), **SOME)

    result, run = resumed(strategy(), strategy(), steps=(0.5, 0.25), rounds=2)
    events = [data["event"]["sampling"]["kind"] for data in entries(run, "privacy_spent")]
    assert events == ["poisson", "none", "poisson"]
    counted = PrivacyLedger(None, 1e-6, accountant="rdp")
    counted.spend((1,), GaussianEvent(1.0, Poisson(0.9)), 2)
    expected = counted.would_spend(GaussianEvent(1.0, NoAmplification()))
    assert result.privacy.epsilon == pytest.approx(expected)


@pytest.mark.parametrize(("nodes", "times"), [((4, 4), 1), ((4, 5), 2)])
def test_examples_that_other_messages_ask_about_are_paid_for_again(resumed, nodes, times):
    def strategy():
        return with_example_dp(FedAvg(**ANY), **EXAMPLES)

    result, _ = resumed(strategy(), strategy(), event="phase_started", nodes=nodes)
    cost = PrivacyLedger(None, 1e-6, accountant="rdp")
    expected = cost.would_spend(GaussianEvent(1.0, Poisson(0.1)), 3 * times)
    assert result.privacy.epsilon == pytest.approx(expected)


@pytest.mark.parametrize(("nodes", "times"), [((4, 4), 1), ((4, 5), 2)])
def test_clients_that_other_messages_ask_have_replied_twice(resumed, nodes, times):
    def strategy():
        return with_local_dp(FedAvg(on_shortfall="skip", **ANY), **LOCAL)

    result, run = resumed(strategy(), strategy(), event="phase_started", nodes=nodes)
    cost = PrivacyLedger(None, 1e-6, accountant="rdp", adjacency="replace-one")
    assert len(entries(run, "privacy_spent")) == times
    assert result.privacy.epsilon == pytest.approx(cost.would_spend(GaussianEvent(1.0), times))


def test_what_is_not_hidden_is_said(learn, moving):
    client = moving(lambda node: 1.0)
    result, _ = learn(with_central_dp(FedAvg(**ANY), **SOME), client, zeros(2))
    assert "who takes part or fails, and whether enough reply" in result.privacy.not_covered
    local = with_local_dp(FedAvg(on_shortfall="skip", **ANY), **LOCAL)
    result, _ = learn(local, client, zeros(2))
    assert "who takes part, or fails and what it says then" in result.privacy.not_covered
