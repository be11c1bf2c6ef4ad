"""Clients that fail, and how many may."""

import numpy as np
import pytest

from umbel.base import NotEnoughReplies
from umbel.strategies import FedAvg


class TestFailures:
    def test_each_has_its_node_round_cause_and_traceback(self, federate, initial, failing_on):
        result = federate(FedAvg(), failing_on([1, 3], rounds=[2]), initial=initial, num_rounds=3)
        assert [(f.server_round, f.phase, f.node_id, f.kind) for f in result.failures] == [
            (2, "train", 1, "OSError"),
            (2, "train", 3, "OSError"),
        ]
        assert result.failures[0].message == "disk of node 1 is full"
        assert "raise OSError(" in (result.failures[0].traceback or "")
        assert result.arrays["w"].view().tolist() == [3.0, 3.0]

    @pytest.mark.slow
    def test_processes_tell_the_same(self, federate, initial, failing_on):
        client = failing_on([1, 3], rounds=[2])
        one = federate(FedAvg(), client, initial=initial)
        two = federate(FedAvg(), client, initial=initial, backend="processes")
        told = [
            [(f.server_round, f.node_id, f.kind, f.message) for f in result.failures]
            for result in (one, two)
        ]
        assert told[0] == told[1]


class TestMinCompletion:
    @pytest.mark.parametrize(
        ("least", "failing", "enough"),
        [
            (1, 3, True),
            (0, 4, False),  # no reply makes no round, whatever is asked for
            (3, 1, True),
            (3, 2, False),
            (5, 0, False),
            (0.5, 2, True),
            (0.5, 3, False),
            (1.0, 0, True),
            (1.0, 1, False),
        ],
    )
    def test_numbers_and_parts(self, federate, least, failing, enough, initial, failing_on):
        strategy = FedAvg(min_completion=least)
        client = failing_on(range(failing))
        if enough:
            result = federate(strategy, client, initial=initial, num_rounds=1)
            assert result.train_metrics_clientapp[1]["value"] == 1.0
            return
        with pytest.raises(NotEnoughReplies, match=f"{4 - failing} of 4 clients") as caught:
            federate(strategy, client, initial=initial, num_rounds=1)
        facts = {"round": 1, "phase": "train", "replies": 4 - failing}
        assert caught.value.context.items() >= facts.items()

    @pytest.mark.parametrize("overridden", [False, True])
    def test_too_few_replies_are_not_aggregated(self, overridden, federate, initial, failing_on):
        """All that came weigh nothing, and have no mean: that is no error of a skipped phase."""

        class Own(FedAvg):
            def aggregate_train(self, server_round, replies):
                return super().aggregate_train(server_round, replies)

        fails = failing_on([0, 1])

        def client(message, context):
            content = fails(message, context)
            content["metrics"]["num-examples"] = 0
            return content

        kind = Own if overridden else FedAvg
        strategy = kind(on_shortfall="skip", min_completion=3, fraction_evaluate=0)
        result = federate(strategy, client, initial=initial, num_rounds=1)
        assert result.arrays["w"].view().tolist() == [0.0, 0.0]

    def test_a_cause_that_many_share_is_told_once(self, federate, initial):
        def client(message, context):
            raise ValueError("no data" if context.node_id else "disk is full")

        text = r"node 0: ValueError: disk is full; node 1 and 2 more: ValueError: no data"
        with pytest.raises(NotEnoughReplies, match=text):
            federate(FedAvg(), client, initial=initial)

    def test_a_part_is_not_rounded_up_by_floating_point(self):
        strategy = FedAvg(min_completion=0.07)
        assert 0.07 * 100 > 7
        assert strategy.replies_needed(100) == 7
        assert strategy.replies_needed(101) == 8

    @pytest.mark.parametrize("handed", [False, True])
    def test_repeat_samples_a_new_cohort(self, federate, handed, events, initial, failing_on):
        class Handed(FedAvg):
            def aggregate_train(self, server_round, replies):
                return super().aggregate_train(server_round, replies)

        kind = Handed if handed else FedAvg
        strategy = kind(0.2, 0.0, min_completion=1.0, on_shortfall="repeat", max_repeats=20)
        result = federate(
            strategy,
            failing_on(range(5)),
            initial=initial,
            nodes=10,
            num_rounds=3,
            simulation={"observers": [events]},
        )
        assert result.arrays["w"].view().tolist() == [3.0, 3.0]
        short = events.of("phase_fell_short")
        assert short
        assert all(s["then"] == "repeat" and s["needed"] == 2 > s["replies"] for s in short)
        started = [tuple(data["nodes"]) for data in events.of("phase_started")]
        assert len(started) == 3 + len(short)
        assert len(set(started)) > 1

    def test_repeat_ends_when_it_has_been_tried_often_enough(
        self, federate, events, initial, failing_on
    ):
        strategy = FedAvg(on_shortfall="repeat", max_repeats=2)
        with pytest.raises(NotEnoughReplies, match="disk of node 0 is full"):
            federate(
                strategy,
                failing_on(range(4)),
                initial=initial,
                simulation={"observers": [events]},
            )
        assert [s["then"] for s in events.of("phase_fell_short")] == ["repeat", "repeat", "end"]

    @pytest.mark.parametrize("phase", ["train", "evaluate"])
    def test_skip_leaves_the_model_and_goes_on(self, federate, phase, events, initial, failing_on):
        result = federate(
            FedAvg(on_shortfall="skip", min_completion=0.75),
            failing_on([0, 1], phase=phase, rounds=[2]),
            initial=initial,
            num_rounds=3,
            simulation={"observers": [events]},
        )
        assert result.arrays["w"].view().tolist() == [2.0 if phase == "train" else 3.0] * 2
        metrics = {
            "train": result.train_metrics_clientapp,
            "evaluate": result.evaluate_metrics_clientapp,
        }
        assert list(metrics.pop(phase)) == [1, 3]
        assert list(metrics.popitem()[1]) == [1, 2, 3]
        (short,) = events.of("phase_fell_short")
        reason = short.pop("reason")
        assert short == {"round": 2, "phase": phase, "replies": 2, "needed": 3, "then": "skip"}
        assert "disk of node 0 is full" in reason

    @pytest.mark.parametrize("handed", [False, True])
    def test_rejected_replies_are_not_usable(self, federate, handed, initial, plus_one):
        class Handed(FedAvg):
            def aggregate_train(self, server_round, replies):
                return super().aggregate_train(server_round, replies)

        def client(message, context):
            reply = plus_one(message, context)
            if context.node_id < 2:
                reply["arrays"]["w"] = np.full(2, np.nan, np.float32)
            return reply

        strategy = (Handed if handed else FedAvg)(min_completion=3)
        with pytest.raises(NotEnoughReplies, match=r"2 of 4 .*'w' holds NaN"):
            federate(strategy, client, initial=initial)

    @pytest.mark.parametrize("method", ["configure_train", "finish_train"])
    @pytest.mark.parametrize("then", ["end", "repeat", "skip"])
    def test_a_strategy_that_finds_too_few_by_itself(
        self, federate, method, then, events, initial, plus_one
    ):
        """As one does that talks with its nodes before or after they train."""

        class Talking(FedAvg):
            def configure_train(self, server_round, arrays, config, grid):
                self.falls_short("configure_train", server_round)
                return super().configure_train(server_round, arrays, config, grid)

            def finish_train(self, server_round, value):
                self.falls_short("finish_train", server_round)
                return super().finish_train(server_round, value)

            def falls_short(self, place, server_round):
                if place == method and server_round == 2 and self.run.attempt == 0:
                    raise NotEnoughReplies("one alone", replies=1, needed=2)

        options = {"initial": initial, "num_rounds": 3, "simulation": {"observers": [events]}}
        if then == "end":
            with pytest.raises(NotEnoughReplies, match="one alone"):
                federate(Talking(on_shortfall=then), plus_one, **options)
        else:
            result = federate(Talking(on_shortfall=then), plus_one, **options)
            assert result.arrays["w"].view().tolist() == [3.0 if then == "repeat" else 2.0] * 2
        (short,) = events.of("phase_fell_short")
        assert (short["replies"], short["needed"], short["then"]) == (1, 2, then)
