import numpy as np
import pytest

from umbel.base import NotEnoughReplies
from umbel.clientapp import secagg_mod
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.strategies import FedAdam, FedAvg, FedAvgM, FedProx, with_secagg

STAGES = ["advertise", "share", "mask", "consistency", "unmask"]


class TestIsThePlainMean:
    @pytest.mark.parametrize(
        "make",
        [FedAvg, lambda: FedAvgM(server_momentum=0.5), lambda: FedProx(proximal_mu=0.1)],
        ids=["FedAvg", "FedAvgM", "FedProx"],
    )
    def test_for_strategies_that_average(self, learn, make, secure, plain, gap):
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

    def test_for_one_that_magnifies_small_differences(self, learn, secure, plain, gap):
        ours = learn(with_secagg(FedAdam(), weight_max=30), secure(), num_rounds=2)
        assert gap(ours.arrays, learn(FedAdam(), plain(), num_rounds=2).arrays) < 1e-4

    def test_of_metrics_that_were_asked_for_and_of_no_others(self, learn, secure, plain):
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
    def test_whatever_the_parameters(self, learn, options, bound, secure, plain, gap):
        mod = secagg_mod(active=options.get("active", True))
        ours = learn(with_secagg(FedAvg(), weight_max=30, **options), secure(mod=mod))
        theirs = learn(FedAvg(), plain())
        assert gap(ours.arrays, theirs.arrays) < bound

    def test_of_equal_weights_of_zero_and_one(self, learn, secure, plain, gap, handler):
        def weighted(message, context):
            content = handler(message, context)
            content["metrics"]["num-examples"] = int(context.node_id < 4)
            return content

        ours = learn(with_secagg(FedAvg(), weight_max=1), secure(weighted))
        assert gap(ours.arrays, learn(FedAvg(), plain(inner=weighted)).arrays) < 1e-6

    def test_of_updates_below_a_step_on_average(self, learn, secure):
        size, small = 5000, 6e-4

        def moving(message, context):
            metrics = MetricRecord({"num-examples": 1})
            arrays = ArrayRecord({"w": message.content["arrays"]["w"].view() + small})
            return RecordDict({"arrays": arrays, "metrics": metrics})

        strategy = with_secagg(FedAvg(fraction_evaluate=0), weight_max=1, bits=16)
        result = learn(strategy, secure(moving), initial=ArrayRecord({"w": np.zeros(size)}))
        step = 8.0 / 4094
        assert small < step / 3
        got = result.arrays["w"].view()
        assert got.mean() == pytest.approx(small, abs=4 * step / 2 / np.sqrt(8 * size))
        assert np.abs(got - small).max() <= step

    @pytest.mark.slow
    @pytest.mark.parametrize("backend", ["processes", "ray"])
    def test_to_the_same_bits_on_every_backend(self, learn, backend, secure):
        def fails(node, stage):
            return (node, stage) in [(1, "share"), (6, "mask")]

        here = learn(with_secagg(FedAvg(), weight_max=30), secure(fails=fails))
        there = learn(with_secagg(FedAvg(), weight_max=30), secure(fails=fails), backend=backend)
        for key, array in here.arrays.items():
            assert bytes(array.data) == bytes(there.arrays[key].data)

    def test_the_precision_stands_in_the_log(self, learn, secure):
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
    def test_at_each_step_up_to_the_threshold(self, learn, stage, degree, secure, plain, gap):
        def fails(node, step):
            return node in (2, 5) and step == stage

        strategy = with_secagg(FedAvg(), weight_max=30, threshold=5, degree=degree)
        ours = learn(strategy, secure(fails=fails))
        # Who has sent its masked vector is in the sum, whatever becomes of it.
        lost = () if stage in ("consistency", "unmask") else (2, 5)
        assert gap(ours.arrays, learn(FedAvg(), plain(*lost)).arrays) < 1e-6
        phase = "train" if stage == "mask" else f"secagg.{stage}"
        assert [(f.phase, f.node_id, f.kind) for f in ours.failures] == [
            (phase, 2, "OSError"),
            (phase, 5, "OSError"),
        ]

    def test_at_several_steps(self, learn, secure, plain, gap):
        lost = {0: "advertise", 3: "mask", 7: "unmask"}

        def fails(node, step):
            return lost.get(node) == step

        ours = learn(with_secagg(FedAvg(), weight_max=30, threshold=5), secure(fails=fails))
        assert gap(ours.arrays, learn(FedAvg(), plain(0, 3)).arrays) < 1e-6

    @pytest.mark.parametrize("stage", STAGES)
    def test_beyond_the_threshold_the_round_fails_and_says_why(self, learn, stage, secure):
        def fails(node, step):
            return node in (2, 5, 7) and step == stage

        with pytest.raises(NotEnoughReplies, match=r"OSError: node 2 lost power") as caught:
            learn(with_secagg(FedAvg(), weight_max=30), secure(fails=fails))
        assert caught.value.context.items() >= {"replies": 5, "needed": 6, "round": 1}.items()

    @pytest.mark.parametrize("stage", ["share", "mask", "unmask"])
    def test_a_round_can_be_repeated_or_skipped(self, learn, stage, secure, plain, gap, model):
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
        assert gap(skipped.arrays, model) == 0

    def test_min_completion_counts_those_that_were_asked(self, learn, secure):
        def fails(node, step):
            return node == 2 and step == "advertise"

        strategy = with_secagg(FedAvg(min_completion=1.0), weight_max=30)
        with pytest.raises(
            NotEnoughReplies, match="7 of 7 clients gave a usable reply and 8 are needed"
        ):
            learn(strategy, secure(fails=fails))

    def test_a_value_out_of_range_is_one_clients_failure(self, learn, secure, plain, gap, handler):
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

    def test_so_are_a_weight_and_a_metric(self, learn, secure, handler):
        def wild(message, context):
            content = handler(message, context)
            if message.metadata.message_type == "train" and context.node_id == 4:
                content["metrics"]["num-examples"] = 31
            if message.metadata.message_type == "train" and context.node_id == 5:
                del content["metrics"]["loss"]
            return content

        strategy = with_secagg(FedAvg(), weight_max=30, metrics={"loss": 2.0})
        ours = learn(strategy, secure(wild), num_rounds=1)
        weight, loss = ours.failures
        assert (weight.node_id, loss.node_id) == (4, 5)
        assert "the weight is not in [0, 30]" in weight.message
        assert "'loss' is missing" in loss.message


class TestStates:
    def test_what_a_node_keeps_is_gone_when_the_round_is_over(self, learn, secure):
        seen = []

        def client(message, context):
            seen.append("secagg" in context.state)
            return secure()(message, context)

        learn(with_secagg(FedAvg(fraction_evaluate=0), weight_max=30), client, num_rounds=1)
        learn(with_secagg(FedAvg(), weight_max=30), client, num_rounds=1)
        # Five steps for each, of which the first begins without a session; evaluation has none.
        assert seen == ([False] * 8 + [True] * 32) * 2 + [False] * 8

    def test_the_wrapped_strategy_continues_from_its_state(self, learn, secure, gap):
        first = with_secagg(FedAvgM(server_momentum=0.5), weight_max=30)
        half = learn(first, secure(), num_rounds=1)
        second = with_secagg(FedAvgM(server_momentum=0.5), weight_max=30)
        second.load_state_dict(first.state_dict())
        rest = learn(second, secure(), num_rounds=1, initial=half.arrays)
        whole = learn(
            with_secagg(FedAvgM(server_momentum=0.5), weight_max=30), secure(), num_rounds=2
        )
        assert gap(rest.arrays, whole.arrays) == 0
