"""The round loop, run on real grids."""

import numpy as np
import pytest

from umbel.base import ConfigError, NotEnoughNodes, UsageError
from umbel.records import ArrayRecord, ConfigRecord, MetricRecord
from umbel.strategies import FedAvg


class TestLoop:
    def test_rounds_follow_each_other(self, federate, initial, plus_one):
        result = federate(FedAvg(), plus_one, initial=initial, num_rounds=3)
        assert result.arrays["w"].view().tolist() == [3.0, 3.0]
        assert [m["value"] for m in result.train_metrics_clientapp.values()] == [1.0, 2.0, 3.0]
        assert [m["value"] for m in result.evaluate_metrics_clientapp.values()] == [2.0, 3.0, 4.0]
        assert list(result.timings) == [1, 2, 3]
        for timing in result.timings.values():
            parts = timing.train_s + timing.evaluate_s + timing.server_evaluate_s
            assert 0 < parts <= timing.total_s

    def test_events_tell_the_story_in_order(self, federate, events, initial, failing_on):
        federate(
            FedAvg(),
            failing_on([2]),
            initial=initial,
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
        assert "raise OSError(" in failure.pop("traceback")
        assert failure == {
            "round": 1,
            "phase": "train",
            "node_id": 2,
            "kind": "OSError",
            "message": "disk of node 2 is full",
        }

    @pytest.mark.parametrize(
        ("kind", "name", "value"),
        [
            (ConfigError, "num_rounds", 1.5),
            (ConfigError, "num_rounds", "3"),
            (ConfigError, "num_rounds", -1),
            (ConfigError, "timeout", "60"),
            (ConfigError, "timeout", -1),
            (ConfigError, "timeout", float("nan")),
            (UsageError, "evaluate_fn", 3),
            (UsageError, "should_stop", True),
            (UsageError, "callbacks", [print, 3]),
        ],
    )
    def test_wrong_arguments_are_named(self, federate, initial, plus_one, kind, name, value):
        with pytest.raises(kind, match=name):
            federate(FedAvg(), plus_one, initial=initial, **{name: value})

    def test_one_callback_needs_no_list(self, federate, initial, plus_one):
        seen = []

        def note(server_round, result):
            seen.append(server_round)

        federate(FedAvg(), plus_one, initial=initial, num_rounds=2, callbacks=note)
        assert seen == [1, 2]

    def test_no_rounds_leave_the_model(self, federate, initial, plus_one):
        result = federate(FedAvg(), plus_one, initial=initial, num_rounds=0)
        assert (result.rounds, result.arrays["w"].view().tolist()) == (0, [0.0, 0.0])

    def test_the_caller_keeps_what_it_gave(self, federate, plus_one):
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

    def test_the_two_phases_have_their_own_config(self, federate, initial, plus_one):
        def client(message, context):
            assert message.content["config"]["for"] == message.metadata.message_type
            return plus_one(message, context)

        result = federate(
            FedAvg(),
            client,
            initial=initial,
            num_rounds=1,
            train_config=ConfigRecord({"for": "train"}),
            evaluate_config=ConfigRecord({"for": "evaluate"}),
        )
        assert result.failures == []

    def test_the_model_cannot_be_spoiled_by_those_who_see_it(self, federate, initial, plus_one):
        def evaluate(server_round, arrays):
            arrays.to_numpy_ndarrays(keep_input=False)[0][:] = 100
            arrays["extra"] = np.ones(1)
            return None

        class Meddling(FedAvg):
            def configure_evaluate(self, server_round, arrays, config, grid):
                messages = super().configure_evaluate(server_round, arrays.copy(), config, grid)
                arrays.clear()
                return messages

        result = federate(Meddling(), plus_one, initial=initial, evaluate_fn=evaluate)
        assert list(result.arrays) == ["w"]
        assert result.arrays["w"].view().tolist() == [3.0, 3.0]
        assert result.evaluate_metrics_serverapp == {}

    def test_evaluation_on_the_server_begins_with_the_initial_model(
        self, federate, initial, plus_one
    ):
        result = federate(
            FedAvg(),
            plus_one,
            initial=initial,
            num_rounds=2,
            evaluate_fn=lambda r, arrays: MetricRecord({"w": float(arrays["w"].view()[0])}),
        )
        values = {r: m["w"] for r, m in result.evaluate_metrics_serverapp.items()}
        assert values == {0: 0.0, 1: 1.0, 2: 2.0}

    def test_should_stop(self, federate, initial, plus_one):
        def stop(server_round, result):
            return result.train_metrics_clientapp[server_round]["value"] >= 2

        result = federate(FedAvg(), plus_one, initial=initial, num_rounds=9, should_stop=stop)
        assert (result.rounds, result.stopped_early) == (2, True)
        last = federate(FedAvg(), plus_one, initial=initial, num_rounds=2, should_stop=stop)
        assert (last.rounds, last.stopped_early) == (2, False)

    def test_callbacks_see_the_round_that_is_over(self, federate, initial, failing_on):
        seen = []

        def note(server_round, result):
            seen.append((server_round, result.rounds, len(result.failures)))

        federate(FedAvg(), failing_on([0]), initial=initial, num_rounds=2, callbacks=[note])
        assert seen == [(1, 1, 1), (2, 2, 2)]

    @pytest.mark.parametrize("where", ["callbacks", "should_stop", "evaluate_fn"])
    def test_an_exception_of_the_callers_functions_ends_the_run(
        self, federate, where, events, initial, plus_one
    ):
        def broken(*args):
            raise ZeroDivisionError("oops")

        how = {where: [broken] if where == "callbacks" else broken}
        with pytest.raises(ZeroDivisionError, match="oops"):
            federate(FedAvg(), plus_one, initial=initial, simulation={"observers": [events]}, **how)
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
    def test_arguments_of_another_kind_are_refused(self, federate, how, says, initial, plus_one):
        with pytest.raises(UsageError, match=says):
            federate(FedAvg(), plus_one, **{"initial": initial, **how})

    def test_too_few_nodes_say_so_at_once(self, federate, initial, plus_one):
        with pytest.raises(NotEnoughNodes, match="2 nodes are needed and 1 exist"):
            federate(FedAvg(), plus_one, initial=initial, nodes=1)

    def test_two_strategies_in_one_run_have_their_own_results(self, federate, initial, failing_on):
        def main(grid, context):
            first = FedAvg().start(grid, initial, num_rounds=1)
            return first, FedAvg().start(grid, first.arrays, num_rounds=2)

        first, second = federate(FedAvg(), failing_on([1]), main=main)
        assert [len(r.failures) for r in (first, second)] == [1, 2]
        assert second.arrays["w"].view().tolist() == [3.0, 3.0]
