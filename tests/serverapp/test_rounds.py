"""The round loop, run on real grids."""

import numpy as np
import pytest

from umbel.base import ConfigError, NotEnoughNodes, NotEnoughReplies, UsageError
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Strategy
from umbel.strategies import FedAvg


def initial() -> ArrayRecord:
    return ArrayRecord({"w": np.zeros(2, np.float32)})


def plus_one(message, context) -> RecordDict:
    arrays = ArrayRecord({"w": message.content["arrays"]["w"].view() + 1})
    return RecordDict(
        {
            "arrays": arrays,
            "metrics": MetricRecord({"num-examples": 1, "value": float(arrays["w"].view()[0])}),
        }
    )


def failing_on(nodes, client=plus_one, phase="train", rounds=range(100)):
    def run(message, context):
        config = message.content["config"]
        is_now = message.metadata.message_type == phase and config["server-round"] in rounds
        if is_now and context.node_id in nodes:
            raise OSError(f"disk of node {context.node_id} is full")
        return client(message, context)

    return run


class Events(list):
    def __call__(self, event):
        self.append((event.name, event.data))

    def of(self, name):
        return [data for event, data in self if event == name]


class TestLoop:
    def test_rounds_follow_each_other(self, federate):
        result = federate(FedAvg(), plus_one, initial=initial(), num_rounds=3)
        assert result.arrays["w"].view().tolist() == [3.0, 3.0]
        assert [m["value"] for m in result.train_metrics_clientapp.values()] == [1.0, 2.0, 3.0]
        assert [m["value"] for m in result.evaluate_metrics_clientapp.values()] == [2.0, 3.0, 4.0]
        assert list(result.timings) == [1, 2, 3]
        for timing in result.timings.values():
            parts = timing.train_s + timing.evaluate_s + timing.server_evaluate_s
            assert 0 < parts <= timing.total_s

    def test_events_tell_the_story_in_order(self, federate):
        events = Events()
        federate(
            FedAvg(),
            failing_on([2]),
            initial=initial(),
            num_rounds=1,
            evaluate_fn=lambda r, arrays: MetricRecord({"r": r}),
            simulation={"observers": [events]},
        )
        assert [name for name, _ in events if name != "progress"] == [
            "run_started",
            "strategy_started",
            "server_evaluated",
            "round_started",
            "phase_started",
            "failure",
            "phase_finished",
            "phase_started",
            "phase_finished",
            "server_evaluated",
            "round_finished",
            "run_finished",
        ]
        train, evaluate = events.of("phase_finished")
        assert (train["phase"], train["replies"], train["failures"]) == ("train", 3, 1)
        assert (evaluate["replies"], evaluate["metrics"]["value"]) == (4, 2.0)
        (failure,) = events.of("failure")
        assert failure == {
            "round": 1,
            "phase": "train",
            "node_id": 2,
            "kind": "OSError",
            "message": "disk of node 2 is full",
        }

    def test_no_rounds_leave_the_model(self, federate):
        result = federate(FedAvg(), plus_one, initial=initial(), num_rounds=0)
        assert (result.rounds, result.arrays["w"].view().tolist()) == (0, [0.0, 0.0])

    def test_the_caller_keeps_what_it_gave(self, federate):
        weights = np.zeros(2, np.float32)
        config = ConfigRecord({"lr": 0.1})
        seen = []

        def client(message, context):
            seen.append(dict(message.content["config"]))
            return plus_one(message, context)

        def meddle(server_round, result):
            weights[:] = 100

        result = federate(
            FedAvg(fraction_evaluate=0.0),
            client,
            initial=ArrayRecord({"w": weights}),
            num_rounds=2,
            train_config=config,
            callbacks=[meddle],
        )
        assert dict(config) == {"lr": 0.1}
        assert result.arrays["w"].view().tolist() == [2.0, 2.0]
        assert seen == [{"lr": 0.1, "server-round": 1}] * 4 + [{"lr": 0.1, "server-round": 2}] * 4

    def test_the_two_phases_have_their_own_config(self, federate):
        def client(message, context):
            assert message.content["config"]["for"] == message.metadata.message_type
            return plus_one(message, context)

        result = federate(
            FedAvg(),
            client,
            initial=initial(),
            num_rounds=1,
            train_config=ConfigRecord({"for": "train"}),
            evaluate_config=ConfigRecord({"for": "evaluate"}),
        )
        assert result.failures == []

    def test_the_model_cannot_be_spoiled_by_those_who_see_it(self, federate):
        def evaluate(server_round, arrays):
            arrays.to_numpy_ndarrays(keep_input=False)[0][:] = 100
            arrays["extra"] = np.ones(1)
            return None

        class Meddling(FedAvg):
            def configure_evaluate(self, server_round, arrays, config, grid):
                messages = super().configure_evaluate(server_round, arrays.copy(), config, grid)
                arrays.clear()
                return messages

        result = federate(Meddling(), plus_one, initial=initial(), evaluate_fn=evaluate)
        assert list(result.arrays) == ["w"]
        assert result.arrays["w"].view().tolist() == [3.0, 3.0]
        assert result.evaluate_metrics_serverapp == {}

    def test_evaluation_on_the_server_begins_with_the_initial_model(self, federate):
        result = federate(
            FedAvg(),
            plus_one,
            initial=initial(),
            num_rounds=2,
            evaluate_fn=lambda r, arrays: MetricRecord({"w": float(arrays["w"].view()[0])}),
        )
        values = {r: m["w"] for r, m in result.evaluate_metrics_serverapp.items()}
        assert values == {0: 0.0, 1: 1.0, 2: 2.0}

    def test_should_stop(self, federate):
        stop = lambda r, result: result.train_metrics_clientapp[r]["value"] >= 2  # noqa: E731
        result = federate(FedAvg(), plus_one, initial=initial(), num_rounds=9, should_stop=stop)
        assert (result.rounds, result.stopped_early) == (2, True)
        last = federate(FedAvg(), plus_one, initial=initial(), num_rounds=2, should_stop=stop)
        assert (last.rounds, last.stopped_early) == (2, False)

    def test_callbacks_see_the_round_that_is_over(self, federate):
        seen = []

        def note(server_round, result):
            seen.append((server_round, result.rounds, len(result.failures)))

        federate(FedAvg(), failing_on([0]), initial=initial(), num_rounds=2, callbacks=[note])
        assert seen == [(1, 1, 1), (2, 2, 2)]

    @pytest.mark.parametrize("where", ["callbacks", "should_stop", "evaluate_fn"])
    def test_an_exception_of_the_callers_functions_ends_the_run(self, federate, where):
        def broken(*args):
            raise ZeroDivisionError("oops")

        how = {where: [broken] if where == "callbacks" else broken}
        events = Events()
        with pytest.raises(ZeroDivisionError, match="oops"):
            federate(
                FedAvg(), plus_one, initial=initial(), simulation={"observers": [events]}, **how
            )
        (failed,) = events.of("run_failed")
        assert failed["status"] == "failed"
        assert "oops" in failed["error"]

    @pytest.mark.parametrize(
        ("how", "says"),
        [
            ({"initial": {"w": np.zeros(2)}}, "initial_arrays is a dict"),
            ({"evaluate_fn": lambda r, arrays: {"loss": 1.0}}, "metrics came as a dict"),
            ({"num_rounds": -1}, "not negative"),
        ],
    )
    def test_arguments_of_another_kind_are_refused(self, federate, how, says):
        with pytest.raises(UsageError, match=says):
            federate(FedAvg(), plus_one, **{"initial": initial(), **how})

    def test_too_few_nodes_say_so_at_once(self, federate):
        with pytest.raises(NotEnoughNodes, match="2 nodes are needed and 1 exist"):
            federate(FedAvg(), plus_one, initial=initial(), nodes=1)

    def test_two_strategies_in_one_run_have_their_own_results(self, federate):
        def main(grid, context):
            first = FedAvg().start(grid, initial(), num_rounds=1)
            return first, FedAvg().start(grid, first.arrays, num_rounds=2)

        first, second = federate(FedAvg(), failing_on([1]), main=main)
        assert [len(r.failures) for r in (first, second)] == [1, 2]
        assert second.arrays["w"].view().tolist() == [3.0, 3.0]


class TestFailures:
    def test_each_has_its_node_round_cause_and_traceback(self, federate):
        result = federate(FedAvg(), failing_on([1, 3], rounds=[2]), initial=initial(), num_rounds=3)
        assert [(f.server_round, f.phase, f.node_id, f.kind) for f in result.failures] == [
            (2, "train", 1, "OSError"),
            (2, "train", 3, "OSError"),
        ]
        assert result.failures[0].message == "disk of node 1 is full"
        assert "raise OSError(" in (result.failures[0].traceback or "")
        assert result.arrays["w"].view().tolist() == [3.0, 3.0]

    @pytest.mark.slow
    def test_processes_tell_the_same(self, federate):
        client = failing_on([1, 3], rounds=[2])
        one = federate(FedAvg(), client, initial=initial())
        two = federate(FedAvg(), client, initial=initial(), backend="processes")
        tell = lambda r: [(f.server_round, f.node_id, f.kind, f.message) for f in r.failures]  # noqa: E731
        assert sorted(tell(one)) == sorted(tell(two))


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
    def test_numbers_and_parts(self, federate, least, failing, enough):
        strategy = FedAvg(min_completion=least)
        client = failing_on(range(failing))
        if enough:
            result = federate(strategy, client, initial=initial(), num_rounds=1)
            assert result.train_metrics_clientapp[1]["value"] == 1.0
            return
        with pytest.raises(NotEnoughReplies, match=f"{4 - failing} of 4 clients") as caught:
            federate(strategy, client, initial=initial(), num_rounds=1)
        assert caught.value.context == {"round": 1, "phase": "train"}

    def test_a_part_is_not_rounded_up_by_floating_point(self):
        strategy = FedAvg(min_completion=0.07)
        assert 0.07 * 100 > 7
        assert strategy.replies_needed(100) == 7
        assert strategy.replies_needed(101) == 8

    @pytest.mark.parametrize("handed", [False, True])
    def test_repeat_samples_a_new_cohort(self, federate, handed):
        class Handed(FedAvg):
            def aggregate_train(self, server_round, replies):
                return super().aggregate_train(server_round, replies)

        events = Events()
        kind = Handed if handed else FedAvg
        strategy = kind(0.2, 0.0, min_completion=1.0, on_shortfall="repeat", max_repeats=20)
        result = federate(
            strategy,
            failing_on(range(5)),
            initial=initial(),
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

    def test_repeat_ends_when_it_has_been_tried_often_enough(self, federate):
        events = Events()
        strategy = FedAvg(on_shortfall="repeat", max_repeats=2)
        with pytest.raises(NotEnoughReplies, match="disk of node 0 is full"):
            federate(
                strategy,
                failing_on(range(4)),
                initial=initial(),
                simulation={"observers": [events]},
            )
        assert [s["then"] for s in events.of("phase_fell_short")] == ["repeat", "repeat", "end"]

    @pytest.mark.parametrize("phase", ["train", "evaluate"])
    def test_skip_leaves_the_model_and_goes_on(self, federate, phase):
        events = Events()
        result = federate(
            FedAvg(on_shortfall="skip", min_completion=0.75),
            failing_on([0, 1], phase=phase, rounds=[2]),
            initial=initial(),
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
        assert short == {"round": 2, "phase": phase, "replies": 2, "needed": 3, "then": "skip"}

    @pytest.mark.parametrize("handed", [False, True])
    def test_rejected_replies_are_not_usable(self, federate, handed):
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
            federate(strategy, client, initial=initial())


class TestOverrides:
    def test_aggregate_train_of_ones_own(self, federate):
        class Largest(FedAvg):
            def aggregate_train(self, server_round, replies):
                best = max(
                    (r for r in replies if r.has_content()),
                    key=lambda reply: reply.content["metrics"]["value"],
                )
                return best.content["arrays"], MetricRecord({"seen": len(replies)})

        result = federate(Largest(), failing_on([0]), initial=initial(), num_rounds=2)
        assert result.arrays["w"].view().tolist() == [2.0, 2.0]
        assert result.train_metrics_clientapp[2] == MetricRecord({"seen": 4})

    def test_an_override_on_the_object_counts_as_well(self, federate):
        strategy = FedAvg()
        strategy.aggregate_train = lambda server_round, replies: (None, MetricRecord({"n": 1}))
        result = federate(strategy, plus_one, initial=initial(), num_rounds=1)
        assert result.arrays["w"].view().tolist() == [0.0, 0.0]
        assert result.train_metrics_clientapp == {1: MetricRecord({"n": 1})}

    def test_replies_may_be_left_out_before_super(self, federate):
        class Picky(FedAvg):
            def aggregate_train(self, server_round, replies):
                kept = [reply for reply in replies if reply.metadata.src_node_id != 0]
                return super().aggregate_train(server_round, kept)

        def client(message, context):
            reply = plus_one(message, context)
            reply["metrics"]["value"] = float(context.node_id)
            return reply

        result = federate(Picky(), client, initial=initial(), num_rounds=1)
        assert result.train_metrics_clientapp[1]["value"] == 2.0

    def test_aggregate_evaluate_of_ones_own(self, federate):
        class Worst(FedAvg):
            def aggregate_evaluate(self, server_round, replies):
                worst = max(reply.content["metrics"]["value"] for reply in replies)
                return MetricRecord({"worst": worst})

        result = federate(Worst(), plus_one, initial=initial(), num_rounds=1)
        assert result.evaluate_metrics_clientapp == {1: MetricRecord({"worst": 2.0})}

    def test_start_of_ones_own(self, federate):
        class TrainOnly(FedAvg):
            def start(self, grid, initial_arrays, num_rounds=3, **kwargs):
                arrays, cohorts = initial_arrays, []
                for server_round in range(1, num_rounds + 1):
                    config = ConfigRecord({"server-round": server_round})
                    messages = self.configure_train(server_round, arrays, config, grid)
                    cohorts.append(tuple(m.metadata.dst_node_id for m in messages))
                    replies = grid.send_and_receive(messages)
                    arrays, _ = self.aggregate_train(server_round, replies)
                return arrays, cohorts

        arrays, cohorts = federate(
            TrainOnly(0.3), plus_one, initial=initial(), nodes=10, num_rounds=4
        )
        assert arrays["w"].view().tolist() == [4.0, 4.0]
        assert len(set(cohorts)) > 1

    def test_a_strategy_from_nothing(self, federate):
        class Own(Strategy):
            def configure_train(self, server_round, arrays, config, grid):
                content = RecordDict({"arrays": arrays, "config": config})
                return [Message(content, node, "train") for node in grid.get_node_ids()]

            def configure_evaluate(self, server_round, arrays, config, grid):
                return []

            def aggregate_train(self, server_round, replies):
                stacked = np.stack([r.content["arrays"]["w"].view() for r in replies])
                return ArrayRecord({"w": np.median(stacked, axis=0)}), None

        result = federate(Own(), plus_one, initial=initial())
        assert result.arrays["w"].view().tolist() == [3.0, 3.0]
        assert result.train_metrics_clientapp == {}
        assert len(Own().state_dict()) == 0
        with pytest.raises(ConfigError, match="keeps no state"):
            Own().load_state_dict(RecordDict({"arrays": ArrayRecord()}))

    def test_a_strategy_that_says_nothing_of_aggregation_is_told_what_to_write(self, federate):
        class Half(Strategy):
            def configure_train(self, server_round, arrays, config, grid):
                return [Message(RecordDict({"arrays": arrays}), 0, "train")]

            configure_evaluate = configure_train

        with pytest.raises(ConfigError, match="override aggregate_train"):
            federate(Half(), plus_one, initial=initial())

    @pytest.mark.parametrize(
        ("outcome", "says"),
        [
            (ArrayRecord(), "to a ArrayRecord, not to a pair"),
            ((np.zeros(1), None), "arrays of type ndarray"),
            ((None, {"loss": 1.0}), "metrics came as a dict"),
        ],
    )
    def test_an_outcome_of_another_kind_is_refused(self, federate, outcome, says):
        strategy = FedAvg()
        strategy.aggregate_train = lambda server_round, replies: outcome
        with pytest.raises(UsageError, match=says):
            federate(strategy, plus_one, initial=initial())

    def test_a_timeout_is_a_failure_like_others(self, federate):
        class Impatient(FedAvg):
            def aggregate_train(self, server_round, replies):
                return super().aggregate_train(server_round, replies)

        for kind in (FedAvg, Impatient):
            with pytest.raises(NotEnoughReplies, match="ReplyTimeout: no reply within 0 s"):
                federate(kind(min_completion=1.0), plus_one, initial=initial(), timeout=0.0)
