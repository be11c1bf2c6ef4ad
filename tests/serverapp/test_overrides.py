"""What users override, and what comes of it."""

import numpy as np
import pytest

from umbel.base import AggregationError, ConfigError, NotEnoughReplies, UsageError
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Strategy
from umbel.strategies import FedAvg


class TestOverrides:
    def test_aggregate_train_of_ones_own(self, federate, initial, failing_on):
        class Largest(FedAvg):
            def aggregate_train(self, server_round, replies):
                best = max(
                    (r for r in replies if r.has_content()),
                    key=lambda reply: reply.content["metrics"]["value"],
                )
                return best.content["arrays"], MetricRecord({"seen": len(replies)})

        result = federate(Largest(), failing_on([0]), initial=initial, num_rounds=2)
        assert result.arrays["w"].view().tolist() == [2.0, 2.0]
        assert result.train_metrics_clientapp[2] == MetricRecord({"seen": 4})

    def test_an_override_on_the_object_counts_as_well(self, federate, initial, plus_one):
        strategy = FedAvg()
        strategy.aggregate_train = lambda server_round, replies: (None, MetricRecord({"n": 1}))
        result = federate(strategy, plus_one, initial=initial, num_rounds=1)
        assert result.arrays["w"].view().tolist() == [0.0, 0.0]
        assert result.train_metrics_clientapp == {1: MetricRecord({"n": 1})}

    @pytest.mark.parametrize("broken", [np.nan, np.inf])
    def test_a_model_that_is_not_finite_ends_the_run(self, federate, initial, plus_one, broken):
        class Dividing(FedAvg):
            def aggregate_train(self, server_round, replies):
                values = {"w": np.ones(2), "bias": np.array([broken if server_round == 2 else 0.0])}
                return ArrayRecord(values), None

        initial = ArrayRecord({"w": np.zeros(2), "bias": np.zeros(1)})
        with pytest.raises(AggregationError, match="NaN or infinity") as caught:
            federate(Dividing(), plus_one, initial=initial, num_rounds=3)
        assert caught.value.context == {"round": 2, "key": "bias"}
        lenient = Dividing(require_finite=False)
        result = federate(lenient, plus_one, initial=initial, num_rounds=2)
        assert not np.isfinite(result.arrays["bias"].view()).any()

    def test_replies_may_be_left_out_before_super(self, federate, initial, plus_one):
        class Picky(FedAvg):
            def aggregate_train(self, server_round, replies):
                kept = [reply for reply in replies if reply.metadata.src_node_id != 0]
                return super().aggregate_train(server_round, kept)

        def client(message, context):
            reply = plus_one(message, context)
            reply["metrics"]["value"] = float(context.node_id)
            return reply

        # They came, and that is what min_completion asks.
        strategy = Picky(min_completion=1.0)
        result = federate(strategy, client, initial=initial, num_rounds=1)
        assert result.train_metrics_clientapp[1]["value"] == 2.0

    def test_aggregate_evaluate_of_ones_own(self, federate, initial, plus_one):
        class Worst(FedAvg):
            def aggregate_evaluate(self, server_round, replies):
                worst = max(reply.content["metrics"]["value"] for reply in replies)
                return MetricRecord({"worst": worst})

        result = federate(Worst(), plus_one, initial=initial, num_rounds=1)
        assert result.evaluate_metrics_clientapp == {1: MetricRecord({"worst": 2.0})}

    def test_start_of_ones_own(self, federate, initial, plus_one):
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
            TrainOnly(0.3), plus_one, initial=initial, nodes=10, num_rounds=4
        )
        assert arrays["w"].view().tolist() == [4.0, 4.0]
        assert len(set(cohorts)) > 1

    def test_a_strategy_from_nothing(self, federate, initial, plus_one):
        class Own(Strategy):
            def configure_train(self, server_round, arrays, config, grid):
                content = RecordDict({"arrays": arrays, "config": config})
                return [Message(content, node, "train") for node in grid.get_node_ids()]

            def configure_evaluate(self, server_round, arrays, config, grid):
                return []

            def aggregate_train(self, server_round, replies):
                stacked = np.stack([r.content["arrays"]["w"].view() for r in replies])
                return ArrayRecord({"w": np.median(stacked, axis=0)}), None

        result = federate(Own(), plus_one, initial=initial)
        assert result.arrays["w"].view().tolist() == [3.0, 3.0]
        assert result.train_metrics_clientapp == {}
        assert len(Own().state_dict()) == 0
        with pytest.raises(ConfigError, match="keeps no state"):
            Own().load_state_dict(RecordDict({"arrays": ArrayRecord()}))

    def test_a_strategy_that_says_nothing_of_aggregation_is_told_what_to_write(
        self, federate, initial, plus_one
    ):
        class Half(Strategy):
            def configure_train(self, server_round, arrays, config, grid):
                return [Message(RecordDict({"arrays": arrays}), 0, "train")]

            configure_evaluate = configure_train

        with pytest.raises(ConfigError, match="override aggregate_train"):
            federate(Half(), plus_one, initial=initial)

    @pytest.mark.parametrize(
        ("outcome", "says"),
        [
            (ArrayRecord(), "to a ArrayRecord, not to a pair"),
            ((np.zeros(1), None), "arrays of type ndarray"),
            ((None, {"loss": 1.0}), "metrics came as a dict"),
        ],
    )
    def test_an_outcome_of_another_kind_is_refused(
        self, federate, outcome, says, initial, plus_one
    ):
        strategy = FedAvg()
        strategy.aggregate_train = lambda server_round, replies: outcome
        with pytest.raises(UsageError, match=says):
            federate(strategy, plus_one, initial=initial)

    def test_a_timeout_is_a_failure_like_others(self, federate, initial, plus_one):
        class Impatient(FedAvg):
            def aggregate_train(self, server_round, replies):
                return super().aggregate_train(server_round, replies)

        for kind in (FedAvg, Impatient):
            with pytest.raises(NotEnoughReplies, match="ReplyTimeout: no reply within 0 s"):
                federate(kind(min_completion=1.0), plus_one, initial=initial, timeout=0.0)
