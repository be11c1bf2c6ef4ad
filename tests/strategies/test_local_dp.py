"""Updates that each client clips and noises itself."""

import dp_accounting  # noqa: F401 - takes a second to load, and no test is to be charged for it
import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.clientapp import LocalNoise, local_dp_mod
from umbel.privacy import GaussianEvent, PrivacyLedger, gaussian_delta
from umbel.records import ArrayRecord, Context, Message, RecordDict
from umbel.serverapp import Run
from umbel.strategies import FedAdam, FedAvg, FedMedian, with_local_dp

ANY = {"min_train_nodes": 1, "min_available_nodes": 1, "fraction_evaluate": 0.0}
NOISE = {"clipping": 2.0, "noise_multiplier": 1.5}
SOME = {**NOISE, "delta": 1e-6, "accountant": "rdp"}


def noising(client, sent=None, **options):
    """Return a client inside of the mod."""
    mod = local_dp_mod(**{**NOISE, **options})

    def run(message):
        def inner(message, context):
            return Message(client(message), reply_to=message)

        content = mod(message, Context("run", message.metadata.dst_node_id), inner).content
        if sent is not None:
            sent.append(content)
        return content

    return run


def zeros(count):
    return ArrayRecord({"w": np.zeros(count, np.float32), "steps": np.array(1)})


def test_each_reply_is_noised_and_nothing_else_is_in_it(learn, moving):
    sent, count = [], 100_000
    client = noising(moving(lambda node: 0.0, loss=0.5), sent)
    result, _ = learn(with_local_dp(FedAvg(**ANY), **SOME), client, zeros(count))
    for content in sent:
        assert sorted(content) == ["arrays", "dp"]
        drawn = content["arrays"]["w"].view()
        assert abs(drawn.std() / (1.5 * 2.0) - 1) < 5 / np.sqrt(2 * count)
    one, other = (content["arrays"]["w"].view() for content in sent[:2])
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(count)
    mean = result.arrays["w"].view()
    assert abs(mean.std() / (3.0 / np.sqrt(4)) - 1) < 5 / np.sqrt(2 * count)
    assert not result.train_metrics_clientapp[1]
    assert int(result.arrays["steps"].view()) == 1


def test_the_noise_is_calibrated_to_any_two_updates():
    noise = LocalNoise.of(clipping=3.0, epsilon=2.0, delta=1e-5)
    # Two updates of norm 3 may be 6 apart.
    assert gaussian_delta(noise.noise_multiplier * 3.0, 2.0, 6.0) == pytest.approx(1e-5, rel=1e-3)
    ledger = PrivacyLedger(None, 1e-5, adjacency="replace-one")
    assert ledger.would_spend(GaussianEvent(noise.noise_multiplier)) == pytest.approx(2.0, rel=1e-3)


def test_the_statement_is_about_the_client_that_replied_most(learn, moving):
    turns = [[0, 1], [0, 2], [3], [0, 3]]

    def sampler(grid, seeds):
        return turns[grid.run.server_round - 1]

    strategy = with_local_dp(FedAvg(train_sampler=sampler, fraction_evaluate=0.0), **SOME)
    client = noising(moving(lambda node: 1.0))
    result, run = learn(strategy, client, zeros(2), rounds=4)
    expected = PrivacyLedger(None, 1e-6, accountant="rdp", adjacency="replace-one")
    assert result.privacy.epsilon == pytest.approx(expected.would_spend(GaussianEvent(1.5), 3))
    spent = [entry.data["round"] for entry in run.log.entries() if entry.event == "privacy_spent"]
    assert spent == [1, 2, 4]
    assert "noise added at the client" in str(result.privacy)
    other = with_local_dp(FedAvg(**ANY), **SOME)
    other.load_state_dict(strategy.state_dict())
    assert other.state_dict()["dp-participations"] == strategy.state_dict()["dp-participations"]


def test_it_stops_before_a_client_exceeds_the_budget(learn, moving):
    cost = PrivacyLedger(None, 1e-6, accountant="rdp", adjacency="replace-one")
    budget = cost.would_spend(GaussianEvent(1.5), 2) + 0.01
    asked = []

    def client(message):
        asked.append(message.content["config"]["server-round"])
        return noising(moving(lambda node: 1.0))(message)

    strategy = with_local_dp(FedAvg(**ANY), **SOME, epsilon_budget=budget)
    result, _ = learn(strategy, client, zeros(2), rounds=9)
    assert (result.rounds, result.stopped_early) == (2, True)
    assert set(asked) == {1, 2}
    assert result.privacy.epsilon <= budget


def test_many_clients_learn(learn, moving):
    client = noising(moving(lambda node: [1.0, -1.0]))
    result, _ = learn(with_local_dp(FedAvg(**ANY), **SOME), client, zeros(2), nodes=400, rounds=3)
    np.testing.assert_allclose(result.arrays["w"].view(), [3.0, -3.0], atol=5 * 3 * 0.05 * 3**0.5)


def test_the_servers_step_costs_nothing(learn, moving):
    client = noising(moving(lambda node: 1.0))
    result, _ = learn(with_local_dp(FedAdam(**ANY), **SOME), client, zeros(2), rounds=2)
    plain, _ = learn(with_local_dp(FedAvg(**ANY), **SOME), client, zeros(2), rounds=2)
    assert result.privacy.epsilon == plain.privacy.epsilon


def test_a_client_with_other_numbers_is_left_out(learn, moving):
    def client(message):
        weak = {"noise_multiplier": 0.1} if message.metadata.dst_node_id == 2 else {}
        return noising(moving(lambda node: 1.0), **weak)(message)

    result, _ = learn(with_local_dp(FedAvg(**ANY), **SOME), client, zeros(2))
    assert [failure.node_id for failure in result.failures] == [2]
    assert "the same numbers" in result.failures[0].message


def test_a_client_that_sends_its_model_is_left_out(learn, moving):
    strategy = with_local_dp(FedAvg(on_shortfall="skip", **ANY), **SOME)
    result, _ = learn(strategy, moving(lambda node: 1.0), zeros(2))
    assert len(result.failures) == 4


def test_only_a_virtual_nodes_noise_follows_from_a_seed(federate, moving, learn):
    def run(**options):
        inner = noising(moving(lambda node: 0.0))

        def client(message, context):
            mod = local_dp_mod(**NOISE)

            def handler(message, context):
                return Message(moving(lambda node: 0.0)(message), reply_to=message)

            return mod(message, context, handler).content

        strategy = with_local_dp(FedAvg(**ANY), **SOME)
        if options:
            return federate(strategy, client, initial=zeros(3), **options).arrays
        return learn(strategy, inner, zeros(3), run=Run())[0].arrays

    assert run(seed=7) == run(seed=7)
    assert run(seed=7) != run(seed=8)
    assert run() != run()


def test_metrics_only_if_asked_for(learn, moving):
    client = noising(moving(lambda node: 1.0, loss=0.5), release_metrics=True)
    strategy = with_local_dp(FedAvg(**ANY), **SOME, release_metrics=True)
    result, _ = learn(strategy, client, zeros(2))
    assert dict(result.train_metrics_clientapp[1]) == {"loss": 0.5}
    assert "training metrics" in str(result.privacy)


def test_evaluation_passes_untouched():
    def handler(message, context):
        return Message(RecordDict(), reply_to=message)

    message = Message(RecordDict({"arrays": zeros(1)}), 1, "evaluate")
    assert local_dp_mod(**NOISE)(message, Context("run", 1), handler).content == RecordDict()


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 1.0},
        {"noise_multiplier": None},
        {"noise_multiplier": None, "epsilon": -1.0},
        {"clipping": 0.0},
        {"noise_multiplier": float("nan")},
        {"delta": 0.0},
    ],
)
def test_numbers_without_meaning_are_refused(wrong):
    with pytest.raises(ConfigError):
        with_local_dp(FedAvg(**ANY), **SOME | wrong)


def test_rules_that_are_no_mean_are_refused(learn, moving):
    with pytest.raises(ConfigError, match="not by a weighted mean"):
        learn(with_local_dp(FedMedian(**ANY), **SOME), moving(lambda node: 1.0), zeros(2))
