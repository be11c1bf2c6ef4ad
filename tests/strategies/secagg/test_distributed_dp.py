import numpy as np
import pytest

from umbel.base import ConfigError, NotEnoughReplies
from umbel.clientapp import secagg_mod
from umbel.privacy import NoiseShare, PerLayer, RdpAccountant, event_from_json
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.strategies import (
    FedAdam,
    FedAvg,
    FedMedian,
    PowerOfChoice,
    with_distributed_dp,
    with_secagg,
)

NODES = 8
SIZE = 2000
FAINT = 1e-6


@pytest.fixture
def model():
    return ArrayRecord({"w": np.zeros(SIZE, np.float32), "steps": np.array(0)})


@pytest.fixture
def handler():
    """Return clients whose updates point all the same way, of the norms 0.5, 1.0, 1.5 ..."""

    def answer(message, context):
        if message.metadata.message_type != "train":
            return RecordDict({"metrics": MetricRecord({"num-examples": 1})})
        arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
        arrays["w"] += np.float32(0.5 * (1 + context.node_id) / np.sqrt(SIZE))
        arrays["steps"] += 1
        metrics = MetricRecord({"num-examples": 1 + context.node_id, "loss": 1.0})
        return RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})

    return answer


def still(message, context):
    """Answer as a client that learns nothing does."""
    content = RecordDict({"metrics": MetricRecord({"num-examples": 1})})
    if message.metadata.message_type == "train":
        content["arrays"] = message.content["arrays"]
    return content


def private(strategy=None, **options):
    defaults = {"noise_multiplier": FAINT, "clipping": 2.0, "cohort": NODES, "delta": 1e-5}
    return with_distributed_dp(strategy or FedAvg(), **{**defaults, **options})


def spent(events):
    return [event.data for event in events if event.name == "privacy_spent"]


@pytest.fixture
def watch():
    events = []
    return events, {"simulation": {"observers": [events.append]}}


class TestTheMean:
    @pytest.mark.parametrize("mechanism", ["skellam", "discrete-gaussian"])
    def test_is_that_of_clipped_updates_each_with_weight_one(self, learn, secure, mechanism):
        result = learn(private(mechanism=mechanism), secure())
        clipped = [min(0.5 * (1 + node), 2.0) for node in range(NODES)]
        expected = np.mean(clipped) / np.sqrt(SIZE)
        assert result.arrays["w"].view() == pytest.approx(np.full(SIZE, expected), abs=1e-5)
        assert int(result.arrays["steps"].view()) == 0  # whole numbers stay as they are
        assert dict(result.train_metrics_clientapp[1]) == {}

    def test_is_divided_by_the_cohort_whoever_stays(self, learn, secure):
        def fails(node, stage):
            return (node, stage) in [(7, "mask"), (6, "unmask")]

        result = learn(private(), secure(fails=fails))
        clipped = [min(0.5 * (1 + node), 2.0) for node in range(7)]
        expected = np.sum(clipped) / NODES / np.sqrt(SIZE)
        assert result.arrays["w"].view() == pytest.approx(np.full(SIZE, expected), abs=1e-5)

    def test_of_layers(self, learn, secure):
        result = learn(private(clipping=PerLayer({"w": 0.5})), secure())
        expected = np.full(SIZE, 0.5 / np.sqrt(SIZE))
        assert result.arrays["w"].view() == pytest.approx(expected, abs=1e-5)

    def test_goes_to_the_strategy_inside(self, learn, secure):
        result = learn(private(FedAdam(eta=0.1, tau=1e-8)), secure())
        # Adam's first step is the same for all coordinates, far as their noise is below them.
        step = result.arrays["w"].view()
        assert step == pytest.approx(np.full(SIZE, step[0]), rel=1e-3)
        assert 0.05 < step[0] < 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("backend", ["processes", "ray"])
    def test_has_the_same_bits_on_every_backend(self, learn, secure, backend):
        here = learn(private(noise_multiplier=1.0), secure(), num_rounds=2)
        there = learn(private(noise_multiplier=1.0), secure(), num_rounds=2, backend=backend)
        assert bytes(here.arrays["w"].data) == bytes(there.arrays["w"].data)


class TestNoise:
    @pytest.mark.parametrize("mechanism", ["skellam", "discrete-gaussian"])
    @pytest.mark.parametrize("lost", [0, 2])
    def test_is_enough_if_as_many_drop_out_as_may(self, learn, secure, mechanism, lost):
        def fails(node, stage):
            return node < lost and stage == "mask"

        strategy = private(noise_multiplier=0.5, mechanism=mechanism)
        result = learn(strategy, secure(still, fails=fails))
        # Six of eight are needed, and make the noise; two more add theirs.
        std = 0.5 * 2.0 / NODES * np.sqrt((NODES - lost) / 6)
        assert result.arrays["w"].view().std() == pytest.approx(std, rel=0.06)

    def test_differs_from_round_to_round_and_from_client_to_client(self, learn, secure):
        one = learn(private(noise_multiplier=0.5), secure(still), num_rounds=1)
        two = learn(private(noise_multiplier=0.5), secure(still), num_rounds=2)
        first = one.arrays["w"].view()
        second = two.arrays["w"].view() - first
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
        assert second.std() == pytest.approx(first.std(), rel=0.1)

    def test_that_colluders_know_counts_for_nothing(self, learn, secure, watch):
        events, options = watch
        strategy = private(noise_multiplier=0.5, colluders=3)
        result = learn(strategy, secure(still), **options)
        assert result.arrays["w"].view().std() == pytest.approx(
            0.5 * 2.0 / NODES * np.sqrt(NODES / 3), rel=0.06
        )
        event = event_from_json(spent(events)[0]["event"])
        share = NoiseShare.fitting("skellam", 2.0, noise_multiplier=0.5, shares=3, cohort=NODES)
        assert event == share.event(SIZE, NODES - 3)
        assert "3 clients that work with it" in str(result.privacy)


class TestAccounting:
    def test_counts_the_noise_of_those_that_stayed(self, learn, secure, watch):
        def fails(node, stage):
            return node == 2 and stage == "share"

        events, options = watch
        strategy = private(noise_multiplier=2.0)
        result = learn(strategy, secure(fails=fails), num_rounds=2, **options)
        share = NoiseShare.fitting("skellam", 2.0, noise_multiplier=2.0, shares=6, cohort=NODES)
        event = share.event(SIZE, 7)
        assert [event_from_json(data["event"]) for data in spent(events)] == [event] * 2
        expected = RdpAccountant("zero-out").compose(event, 2).epsilon(1e-5)
        assert result.privacy.epsilon == pytest.approx(expected)
        assert result.privacy.sampling.kind == "none"
        assert "noise added at the clients" in str(result.privacy)
        assert "seeded: simulation only" in str(result.privacy)

    def test_spends_before_the_sum_is_opened(self, learn, secure, watch):
        events, options = watch

        def fails(node, stage):
            return stage == "unmask"

        with pytest.raises(NotEnoughReplies):
            learn(private(noise_multiplier=2.0), secure(fails=fails), **options)
        assert len(spent(events)) == 1

    def test_the_budget_ends_the_run_before_a_round_begins(self, learn, secure, watch):
        events, options = watch
        once = learn(private(noise_multiplier=2.0), secure()).privacy.epsilon
        strategy = private(noise_multiplier=2.0, epsilon_budget=1.3 * once)
        result = learn(strategy, secure(), num_rounds=5, **options)
        assert result.stopped_early
        assert result.privacy.epsilon == pytest.approx(once)
        rounds = {e.data["round"] for e in events if e.name == "phase_started"}
        assert rounds == {1}


class TestWhoIsRefused:
    def test_a_server_whose_sums_have_too_little_noise(self, learn, secure):
        mod = secagg_mod(noise_multiplier=1.0)
        learn(private(noise_multiplier=1.0), secure(mod=mod))
        for strategy in (private(noise_multiplier=0.9), with_secagg(FedAvg(), weight_max=30)):
            with pytest.raises(NotEnoughReplies, match="this client asks for 1"):
                learn(strategy, secure(mod=mod))

    def test_an_update_of_nan_is_one_clients_failure(self, learn, secure, handler):
        def broken(message, context):
            content = handler(message, context)
            if context.node_id == 5 and "arrays" in content:
                content["arrays"]["w"] = np.full(SIZE, np.nan, np.float32)
            return content

        (failure,) = learn(private(), secure(broken)).failures
        assert (failure.node_id, failure.kind) == (5, "RejectedReply")

    def test_strategies(self):
        with pytest.raises(ConfigError, match="only a weighted mean"):
            private(FedMedian())
        with pytest.raises(ConfigError, match="asks clients about their data"):
            private(PowerOfChoice(num_candidates=4, num_selected=2))

    @pytest.mark.parametrize(
        "options",
        [
            {"noise_multiplier": 0},
            {"clipping": -1.0},
            {"cohort": 0},
            {"delta": 2},
            {"epsilon_budget": -1},
            {"mechanism": "laplace"},
            {"colluders": -1},
        ],
        ids=str,
    )
    def test_arguments_that_make_no_sense(self, options):
        with pytest.raises(ConfigError):
            private(**options)
