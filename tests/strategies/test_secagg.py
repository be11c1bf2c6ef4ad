import numpy as np
import pytest

from umbel.base import ConfigError, NotEnoughNodes, NotEnoughReplies, SecAggAborted, UsageError
from umbel.clientapp import secagg_mod
from umbel.records import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from umbel.strategies import (
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedNova,
    FedProx,
    Scaffold,
    SecurelyAggregated,
    with_compression,
    with_secagg,
)
from umbel.updates import Cast

STAGES = ["advertise", "share", "mask", "consistency", "unmask"]
NODES = 8
TARGETS = np.random.default_rng(5).standard_normal((NODES, 12)).astype(np.float32)


def model():
    return ArrayRecord({"w": np.zeros((3, 4), np.float32), "b": np.ones(2), "steps": np.array(0)})


def train(message, context):
    arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
    rate = 0.5 - message.content["config"].get("proximal-mu", 0.0)
    arrays["w"] -= np.float32(rate) * (arrays["w"] - TARGETS[context.node_id].reshape(3, 4))
    arrays["b"] *= 0.9
    arrays["steps"] += 2
    metrics = {"num-examples": 1 + 3 * context.node_id, "loss": 1.0 / (1 + context.node_id)}
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})


def evaluate(message, context):
    value = float(message.content["arrays"]["w"].view().sum())
    metrics = MetricRecord({"num-examples": 1, "value": value})
    return RecordDict({"metrics": metrics})


def handler(message, context):
    is_train = message.metadata.message_type == "train"
    return (train if is_train else evaluate)(message, context)


def stage_of(message):
    return message.content.config_records.get("secagg", ConfigRecord()).get("stage", "")


def secure(inner=handler, mod=None, fails=None):
    """A client with the mod; ``fails(node, stage)`` says where it breaks."""
    mod = mod or secagg_mod()

    def client(message, context):
        stage = stage_of(message)
        if stage and fails is not None and fails(context.node_id, stage):
            raise OSError(f"node {context.node_id} lost power at {stage}")

        def call_next(message, context):
            return Message(inner(message, context), reply_to=message)

        return mod(message, context, call_next).content

    return client


def plain(*failing, inner=handler):
    def client(message, context):
        if message.metadata.message_type == "train" and context.node_id in failing:
            raise OSError("failed")
        return inner(message, context)

    return client


def gap(ours, theirs):
    return max(
        float(np.abs(np.subtract(ours[k].view(), theirs[k].view(), dtype=float)).max())
        for k in theirs
    )


@pytest.fixture
def learn(federate):
    def run(strategy, client, **options):
        defaults = {"initial": model(), "nodes": NODES, "num_rounds": 1}
        return federate(strategy, client, **{**defaults, **options})

    return run


class TestIsThePlainMean:
    @pytest.mark.parametrize(
        "make",
        [FedAvg, lambda: FedAvgM(server_momentum=0.5), lambda: FedProx(proximal_mu=0.1)],
        ids=["FedAvg", "FedAvgM", "FedProx"],
    )
    def test_for_strategies_that_average(self, learn, make):
        ours = learn(with_secagg(make(), weight_max=30), secure(), num_rounds=2)
        theirs = learn(make(), plain(), num_rounds=2)
        assert gap(ours.arrays, theirs.arrays) < 1e-6
        assert {k: a.dtype for k, a in ours.arrays.items()} == {
            k: a.dtype for k, a in theirs.arrays.items()
        }
        assert ours.evaluate_metrics_clientapp[2]["value"] == pytest.approx(
            theirs.evaluate_metrics_clientapp[2]["value"], abs=1e-4
        )
        assert ours.failures == []

    def test_for_one_that_magnifies_small_differences(self, learn):
        ours = learn(with_secagg(FedAdam(), weight_max=30), secure(), num_rounds=2)
        assert gap(ours.arrays, learn(FedAdam(), plain(), num_rounds=2).arrays) < 1e-4

    def test_of_metrics_that_were_asked_for_and_of_no_others(self, learn):
        ours = learn(with_secagg(FedAvg(), weight_max=30, metrics={"loss": 2.0}), secure())
        theirs = learn(FedAvg(), plain()).train_metrics_clientapp[1]
        assert dict(ours.train_metrics_clientapp[1]) == pytest.approx(dict(theirs), abs=1e-6)
        assert (
            dict(learn(with_secagg(FedAvg(), weight_max=30), secure()).train_metrics_clientapp[1])
            == {}
        )

    @pytest.mark.parametrize(
        ("options", "bound"),
        [
            ({"bits": 64}, 1e-7),
            ({"bits": 16}, 2e-2),
            ({"active": False}, 1e-6),
            ({"degree": 4}, 1e-6),
            ({"degree": 100}, 1e-6),
            ({"degree": "auto", "corrupt": 0.1, "dropout": 0.1}, 1e-6),
            ({"threshold": 5}, 1e-6),
            ({"clip": {"w": 4.0, "steps": 100.0, "*": 1.0}}, 1e-6),
        ],
        ids=str,
    )
    def test_whatever_the_parameters(self, learn, options, bound):
        ours = learn(with_secagg(FedAvg(), weight_max=30, **options), secure())
        theirs = learn(FedAvg(), plain())
        assert gap(ours.arrays, theirs.arrays) < bound

    def test_of_equal_weights_of_zero_and_one(self, learn):
        def weighted(message, context):
            content = handler(message, context)
            content["metrics"]["num-examples"] = int(context.node_id < 4)
            return content

        ours = learn(with_secagg(FedAvg(), weight_max=1), secure(weighted))
        assert gap(ours.arrays, learn(FedAvg(), plain(inner=weighted)).arrays) < 1e-6

    @pytest.mark.slow
    @pytest.mark.parametrize("backend", ["processes", "ray"])
    def test_to_the_same_bits_on_every_backend(self, learn, backend):
        def fails(node, stage):
            return (node, stage) in [(1, "share"), (6, "mask")]

        here = learn(with_secagg(FedAvg(), weight_max=30), secure(fails=fails))
        there = learn(with_secagg(FedAvg(), weight_max=30), secure(fails=fails), backend=backend)
        for key, array in here.arrays.items():
            assert bytes(array.data) == bytes(there.arrays[key].data)

    def test_the_precision_stands_in_the_log(self, learn):
        events = []
        observers = [lambda event: events.append(event)]
        learn(
            with_secagg(FedAvg(), weight_max=30),
            secure(fails=lambda node, stage: node == 3),
            simulation={"observers": observers},
            num_rounds=1,
        )
        (told,) = [event.data for event in events if event.name == "secure_sum"]
        assert (told["asked"], told["clients"], told["threshold"]) == (8, 7, 6)
        assert (told["degree"], told["bits"]) == (6, 32)
        assert 0 < told["error_max"] < 1e-6


class TestDropouts:
    @pytest.mark.parametrize("degree", [None, 6])
    @pytest.mark.parametrize("stage", STAGES)
    def test_at_each_step_up_to_the_threshold(self, learn, stage, degree):
        def fails(node, step):
            return node in (2, 5) and step == stage

        strategy = with_secagg(FedAvg(), weight_max=30, threshold=5, degree=degree)
        ours = learn(strategy, secure(fails=fails))
        # Who has sent its masked vector is in the sum, whatever becomes of it.
        lost = () if stage in ("consistency", "unmask") else (2, 5)
        assert gap(ours.arrays, learn(FedAvg(), plain(*lost)).arrays) < 1e-6
        assert [(f.node_id, f.kind) for f in ours.failures] == [(2, "OSError"), (5, "OSError")]

    def test_at_several_steps(self, learn):
        lost = {0: "advertise", 3: "mask", 7: "unmask"}

        def fails(node, step):
            return lost.get(node) == step

        ours = learn(with_secagg(FedAvg(), weight_max=30, threshold=5), secure(fails=fails))
        assert gap(ours.arrays, learn(FedAvg(), plain(0, 3)).arrays) < 1e-6

    @pytest.mark.parametrize("stage", STAGES)
    def test_beyond_the_threshold_the_round_fails_and_says_why(self, learn, stage):
        def fails(node, step):
            return node in (2, 5, 7) and step == stage

        with pytest.raises(NotEnoughReplies, match=r"OSError: node 2 lost power") as caught:
            learn(with_secagg(FedAvg(), weight_max=30), secure(fails=fails))
        assert caught.value.context.items() >= {"replies": 5, "needed": 6, "round": 1}.items()

    @pytest.mark.parametrize("stage", ["share", "mask", "unmask"])
    def test_a_round_can_be_repeated_or_skipped(self, learn, stage):
        tries = []

        def fails(node, step):
            if node == 0 and step == stage:
                tries.append(node)
            return step == stage and len(tries) == 1

        def strategy(**options):
            return with_secagg(FedAvg(**options), weight_max=30)

        repeated = learn(strategy(on_shortfall="repeat"), secure(fails=fails))
        assert gap(repeated.arrays, learn(FedAvg(), plain()).arrays) < 1e-6
        tries.clear()
        skipped = learn(strategy(on_shortfall="skip"), secure(fails=fails))
        assert gap(skipped.arrays, model()) == 0

    def test_min_completion_counts_those_that_were_asked(self, learn):
        def fails(node, step):
            return node == 2 and step == "advertise"

        strategy = with_secagg(FedAvg(min_completion=1.0), weight_max=30)
        with pytest.raises(
            NotEnoughReplies, match="7 of 7 clients gave a usable reply and 8 are needed"
        ):
            learn(strategy, secure(fails=fails))

    def test_a_value_out_of_range_is_one_clients_failure(self, learn):
        def wild(message, context):
            content = handler(message, context)
            if context.node_id == 4 and "arrays" in content:
                content["arrays"]["b"] = content["arrays"]["b"].view() + 9
            return content

        ours = learn(with_secagg(FedAvg(), weight_max=30), secure(wild), num_rounds=1)
        (failure,) = ours.failures
        assert (failure.node_id, failure.kind) == (4, "UsageError")
        assert "out of [-8, 8]" in failure.message
        assert "raise clip" in failure.message
        expected = learn(FedAvg(), plain(4), num_rounds=1)
        assert gap(ours.arrays, expected.arrays) < 1e-6

    def test_so_are_a_weight_and_a_metric(self, learn):
        def wild(message, context):
            content = handler(message, context)
            if message.metadata.message_type == "train" and context.node_id == 4:
                content["metrics"]["num-examples"] = 31
            if message.metadata.message_type == "train" and context.node_id == 5:
                del content["metrics"]["loss"]
            return content

        strategy = with_secagg(FedAvg(), weight_max=30, metrics={"loss": 2.0})
        ours = learn(strategy, secure(wild), num_rounds=1)
        assert ["weight 31" in f.message or "'loss' is missing" in f.message for f in ours.failures]
        assert [f.node_id for f in ours.failures] == [4, 5]


class TestWhoIsRefused:
    def test_a_client_without_the_mod(self, learn):
        def forgetful(message, context):
            if context.node_id == 1:
                return RecordDict({"metrics": MetricRecord({"num-examples": 1})})
            return secure()(message, context)

        ours = learn(with_secagg(FedAvg(fraction_evaluate=0), weight_max=30), forgetful)
        assert {f.node_id for f in ours.failures} == {1}
        assert "mods=[umbel.clientapp.secagg_mod()]" in ours.failures[0].message
        with pytest.raises(NotEnoughReplies) as caught:
            learn(with_secagg(FedAvg(), weight_max=30), plain())
        assert "secagg_mod()" in caught.value.hint

    def test_a_server_that_asks_for_the_result_in_the_clear(self, learn):
        with pytest.raises(NotEnoughReplies, match="training result that is not masked"):
            learn(FedAvg(), secure())

    def test_a_server_that_asks_for_a_step_that_is_not_due(self):
        mod = secagg_mod()
        asked = RecordDict({"secagg": ConfigRecord({"stage": "unmask", "session": b"s"})})
        with pytest.raises(SecAggAborted, match="a session that this node is not in"):
            mod(Message(asked, 1, "train"), Context("run", 1), lambda m, c: m)

    @pytest.mark.parametrize("change", ["config", "arrays"])
    def test_a_server_that_sends_one_client_something_else(self, learn, change):
        class Cheating(SecurelyAggregated):
            """As a server does that wants the others' updates to be zero."""

            def configure_train(self, server_round, arrays, config, grid):
                messages = list(super().configure_train(server_round, arrays, config, grid))
                content = messages[3].content
                if change == "config":
                    content["config"] = ConfigRecord({**content["config"], "proximal-mu": 0.5})
                else:
                    content["arrays"] = ArrayRecord({**content["arrays"], "b": np.ones(2) + 1e-9})
                return messages

        honest = with_secagg(FedAvg(), weight_max=30)
        cheating = Cheating(honest.inner, honest.plan, honest.neighbours, 3, 600.0)
        with pytest.raises(SecAggAborted, match="different models: nodes 3"):
            learn(cheating, secure())

    def test_a_cohort_that_is_too_small(self, learn):
        strategy = with_secagg(FedAvg(0.5), weight_max=30, minimum_cohort=5)
        with pytest.raises(NotEnoughNodes, match="4 clients, and no sum of fewer than 5"):
            learn(strategy, secure())
        with pytest.raises(NotEnoughReplies, match="joins no sum of fewer than 9"):
            learn(with_secagg(FedAvg(), weight_max=30), secure(mod=secagg_mod(minimum_cohort=9)))
        with pytest.raises(UsageError, match="minimum_cohort=1"):
            secagg_mod(minimum_cohort=1)

    @pytest.mark.parametrize(
        ("strategy", "told"),
        [
            (FedMedian(), "only a weighted mean"),
            (FedNova(), "only a weighted mean"),
            (Scaffold(), "only a weighted mean"),
            (with_compression(FedAvg(), Cast("float16")), "only a weighted mean"),
            (FedAvg(train_metrics_aggr_fn=lambda replies, key: MetricRecord()), "weighted mean"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_strategies_that_look_at_replies(self, strategy, told):
        with pytest.raises(ConfigError, match=told):
            with_secagg(strategy, weight_max=1)

    def test_strategies_that_aggregate_by_themselves(self):
        class Own(FedAvg):
            def aggregate_train(self, server_round, replies):
                return None, None

        with pytest.raises(ConfigError, match="Own overrides aggregate_train"):
            with_secagg(Own(), weight_max=1)

    @pytest.mark.parametrize(
        "options",
        [
            {"weight_max": 0},
            {"clip": -1.0},
            {"clip": {"w": np.inf}},
            {"bits": 8},
            {"threshold": 0.4},
            {"threshold": 1},
            {"degree": 3},
            {"degree": 4, "threshold": 2},
            {"degree": "auto", "threshold": 0.7},
            {"minimum_cohort": 1},
            {"metrics": {"loss": 0}},
        ],
        ids=str,
    )
    def test_arguments_that_make_no_sense(self, options):
        with pytest.raises(ConfigError):
            with_secagg(FedAvg(), **{"weight_max": 1, **options})

    def test_messages_that_differ(self, learn):
        class Personal(FedAvg):
            def configure_train(self, server_round, arrays, config, grid):
                for n, message in enumerate(
                    super().configure_train(server_round, arrays, config, grid)
                ):
                    message.content["config"] = ConfigRecord({"place": n})
                    yield message

        with pytest.raises(ConfigError, match="different records 'config'"):
            learn(with_secagg(Personal(), weight_max=30), secure())


class TestStates:
    def test_what_a_node_keeps_is_gone_when_the_round_is_over(self, learn):
        seen = []

        def client(message, context):
            seen.append("secagg" in context.state)
            return secure()(message, context)

        learn(with_secagg(FedAvg(fraction_evaluate=0), weight_max=30), client, num_rounds=1)
        learn(with_secagg(FedAvg(), weight_max=30), client, num_rounds=1)
        # Five steps for each, of which the first begins without a session; evaluation has none.
        assert seen == ([False] * 8 + [True] * 32) * 2 + [False] * 8

    def test_the_wrapped_strategy_continues_from_its_state(self, learn):
        first = with_secagg(FedAvgM(server_momentum=0.5), weight_max=30)
        half = learn(first, secure(), num_rounds=1)
        second = with_secagg(FedAvgM(server_momentum=0.5), weight_max=30)
        second.load_state_dict(first.state_dict())
        rest = learn(second, secure(), num_rounds=1, initial=half.arrays)
        whole = learn(
            with_secagg(FedAvgM(server_momentum=0.5), weight_max=30), secure(), num_rounds=2
        )
        assert gap(rest.arrays, whole.arrays) == 0
