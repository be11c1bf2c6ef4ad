import numpy as np
import pytest

from umbel.base import AggregationError, ConfigError, NotEnoughReplies, Seeds
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.strategies import FedAdam, FedAvg, FedAvgM
from umbel.updates import chain, scale

MODEL = {
    "w": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "s": np.array(0.5, np.float32),
    "bn.running_var": np.ones(2, np.float32),
    "bn.num_batches_tracked": np.array(0),
}


def model() -> ArrayRecord:
    return ArrayRecord(MODEL)


def drift(message, context) -> RecordDict:
    """Move every array by a step that differs by node and round, from the seeded generator."""
    arrays = {}
    for key, value in message.content["arrays"].views().items():
        moved = value + np.random.standard_normal(value.shape).astype(np.float32) * 0.1
        arrays[key] = np.abs(moved) if "var" in key else moved
        if value.dtype.kind == "i":
            arrays[key] = value + 10
    metrics = {"num-examples": context.node_id + 1, "loss": float(context.node_id)}
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})


def bits(record: ArrayRecord):
    return {key: (array.dtype, array.shape, bytes(array.data)) for key, array in record.items()}


class TestSum:
    def test_the_global_model_is_the_weighted_mean(self, federate):
        def client(message, context):
            arrays = ArrayRecord({"w": np.full(3, context.node_id, np.float32)})
            metrics = MetricRecord({"num-examples": context.node_id + 1})
            return RecordDict({"arrays": arrays, "metrics": metrics})

        result = federate(FedAvg(), client, initial=ArrayRecord({"w": np.zeros(3, np.float32)}))
        expected = np.average([0, 1, 2, 3], weights=[1, 2, 3, 4])
        assert result.arrays["w"].view().tolist() == [expected] * 3
        assert result.rounds == 3

    @pytest.mark.parametrize(
        "same",
        [
            FedAvgM(server_learning_rate=1.0, server_momentum=0.0),
            FedAvg(server_optimizer=chain()),
            FedAvg(server_optimizer=scale(1.0)),
            FedAvg(server_optimizer=chain(scale(2.0), scale(0.5))),
        ],
        ids=["fedavgm", "chain", "scale", "there-and-back"],
    )
    def test_a_server_step_that_is_the_identity_is_fedavg_bit_for_bit(self, federate, same):
        expected = federate(FedAvg(), drift, initial=model())
        got = federate(same, drift, initial=model())
        assert bits(got.arrays) == bits(expected.arrays)
        assert got.train_metrics_clientapp == expected.train_metrics_clientapp

    def test_handed_replies_give_the_bits_of_the_fold(self, federate):
        class Handed(FedAdam):
            def aggregate_train(self, server_round, replies):
                # In any order: a reply's place is that of its node.
                return super().aggregate_train(server_round, sorted(replies, key=id))

            def aggregate_evaluate(self, server_round, replies):
                return super().aggregate_evaluate(server_round, replies)

        def flaky(message, context):
            if context.node_id in (3, 11):
                raise RuntimeError("no luck")
            if context.node_id == 7:
                spoiled = {k: np.full(v.shape, np.nan, v.dtype) for k, v in MODEL.items()}
                metrics = MetricRecord({"num-examples": 1})
                spoiled["bn.num_batches_tracked"] = np.array(0)
                return RecordDict({"arrays": ArrayRecord(spoiled), "metrics": metrics})
            return drift(message, context)

        results = [
            federate(kind(), flaky, initial=model(), nodes=20, num_rounds=2)
            for kind in (FedAdam, Handed)
        ]
        folded, handed = results
        assert bits(folded.arrays) == bits(handed.arrays)
        assert folded.train_metrics_clientapp == handed.train_metrics_clientapp
        assert folded.evaluate_metrics_clientapp == handed.evaluate_metrics_clientapp
        told = [{(f.server_round, f.phase, f.node_id, f.kind) for f in r.failures} for r in results]
        assert told[0] == told[1]
        assert {node for _, phase, node, _ in told[0] if phase == "train"} == {3, 7, 11}

    @pytest.mark.slow
    def test_processes_give_the_same_bits(self, federate):
        one = federate(FedAdam(), drift, initial=model(), nodes=20, num_rounds=2)
        how = {"backend": "processes", "simulation": {"backend_config": {"workers": 2}}}
        two = federate(FedAdam(), drift, initial=model(), nodes=20, num_rounds=2, **how)
        assert bits(one.arrays) == bits(two.arrays)
        assert one.train_metrics_clientapp == two.train_metrics_clientapp

    def test_clients_may_name_the_arrays_in_another_order(self, federate):
        def client(message, context):
            reply = drift(message, context)
            if context.node_id == 0:
                reply["arrays"] = ArrayRecord(dict(reversed(reply["arrays"].items())))
            return reply

        result = federate(FedAvg(), client, initial=model(), num_rounds=1)
        assert list(result.arrays) == list(MODEL)


class TestBatchNorm:
    @pytest.mark.parametrize("key", list(MODEL))
    def test_statistics_are_averaged_and_not_optimised(self, federate, key):
        averaged = federate(FedAvg(), drift, initial=model(), num_rounds=1)
        adam = federate(FedAdam(eta=1.0), drift, initial=model(), num_rounds=1)
        same = averaged.arrays[key] == adam.arrays[key]
        assert same == key.startswith("bn.")

    def test_what_counts_as_statistics_can_be_told(self, federate):
        strategy = FedAdam(averaged_keys=["w"])
        adam = federate(strategy, drift, initial=model(), num_rounds=1)
        averaged = federate(FedAvg(), drift, initial=model(), num_rounds=1)
        assert adam.arrays["w"] == averaged.arrays["w"]
        assert adam.arrays["bn.running_var"] != averaged.arrays["bn.running_var"]
        assert adam.arrays["bn.num_batches_tracked"] == averaged.arrays["bn.num_batches_tracked"]


class TestState:
    @pytest.mark.parametrize(
        "make", [FedAvg, lambda: FedAvgM(server_momentum=0.9), FedAdam], ids=["avg", "m", "adam"]
    )
    def test_it_continues_bit_for_bit(self, federate, make):
        def halves(grid, context):
            first = make()
            middle = first.start(grid, model(), num_rounds=2)
            second = make()
            second.load_state_dict(first.state_dict())
            return middle, second.start(grid, middle.arrays, num_rounds=2)

        def still(message, context):
            reply = drift(message, context)
            for key in ("w", "s"):  # depends on the model alone, not on the round
                given = message.content["arrays"][key].view()
                reply["arrays"][key] = given * np.float32(0.9) + np.float32(context.node_id)
            reply["arrays"]["bn.running_var"] = message.content["arrays"]["bn.running_var"].view()
            return reply

        _, end = federate(make(), still, main=halves)
        whole = federate(make(), still, initial=model(), num_rounds=4)
        assert bits(end.arrays) == bits(whole.arrays)

    def test_a_state_of_another_strategy_is_refused(self, federate):
        adam = FedAdam()
        federate(adam, drift, initial=model(), num_rounds=1)
        for other in (FedAvg(), FedAvgM(server_momentum=0.9), FedAdam(bias_correction=False)):
            with pytest.raises(ConfigError, match="the state"):
                other.load_state_dict(adam.state_dict())

    def test_the_state_of_a_fresh_strategy_loads(self):
        for strategy in (FedAvg(), FedAdam()):
            strategy.load_state_dict(strategy.state_dict())


class TestSampling:
    def cohorts(self, federate, strategy, seed=7, rounds=4, nodes=30):
        seen = []

        def on_event(event):
            if event.name == "phase_started":
                seen.append((event.data["phase"], tuple(event.data["nodes"])))

        federate(
            strategy,
            drift,
            initial=model(),
            nodes=nodes,
            seed=seed,
            num_rounds=rounds,
            simulation={"observers": [on_event]},
        )
        return seen

    def test_it_is_settled_by_the_seed_and_differs_by_round_and_phase(self, federate):
        first = self.cohorts(federate, FedAvg(0.1, 0.1))
        assert self.cohorts(federate, FedAvg(0.1, 0.1)) == first
        assert self.cohorts(federate, FedAvg(0.1, 0.1), seed=8) != first
        assert len({nodes for _, nodes in first}) > 4
        assert all(len(nodes) == 3 and nodes == tuple(sorted(set(nodes))) for _, nodes in first)

    def test_a_fraction_of_zero_leaves_the_phase_out(self, federate):
        only = self.cohorts(federate, FedAvg(0.0, 0.5), rounds=2)
        assert [phase for phase, _ in only] == ["evaluate"] * 2
        only = self.cohorts(federate, FedAvg(0.5, 0.0), rounds=2)
        assert [phase for phase, _ in only] == ["train"] * 2
        nothing = federate(FedAvg(0.0, 0.0), drift, initial=model(), num_rounds=2)
        assert bits(nothing.arrays) == bits(model())
        assert (nothing.train_metrics_clientapp, nothing.rounds) == ({}, 2)

    def test_fractions_may_change_from_round_to_round(self, federate):
        class Growing(FedAvg):
            def configure_train(self, server_round, arrays, config, grid):
                self.fraction_train = server_round / 10
                return super().configure_train(server_round, arrays, config, grid)

        seen = self.cohorts(federate, Growing(fraction_evaluate=0.0), rounds=3)
        assert [len(nodes) for _, nodes in seen] == [3, 6, 9]

    def test_a_sampler_of_ones_own(self, federate):
        def odd(grid, seeds):
            assert isinstance(seeds, Seeds)
            return np.array([node for node in grid.get_node_ids() if node % 2])

        strategy = FedAvg(train_sampler=odd, evaluate_sampler=lambda grid, seeds: [0])
        seen = self.cohorts(federate, strategy, rounds=1, nodes=6)
        assert seen == [("train", (1, 3, 5)), ("evaluate", (0,))]
        assert "odd" in strategy.summary()


class TestMetrics:
    def test_functions_of_ones_own_see_every_reply_without_arrays(self, federate):
        calls = []

        def spread(replies, weighted_by):
            calls.append((len(replies), weighted_by))
            assert all(not reply.array_records for reply in replies)
            losses = [reply["metrics"]["loss"] for reply in replies]
            return MetricRecord({"spread": max(losses) - min(losses)})

        strategy = FedAvg(train_metrics_aggr_fn=spread, evaluate_metrics_aggr_fn=spread)
        result = federate(strategy, drift, initial=model(), num_rounds=1)
        assert result.train_metrics_clientapp == {1: MetricRecord({"spread": 3.0})}
        assert result.evaluate_metrics_clientapp == {1: MetricRecord({"spread": 3.0})}
        assert calls == [(4, "num-examples")] * 2
        plain = federate(FedAvg(), drift, initial=model(), num_rounds=1)
        assert bits(plain.arrays) == bits(result.arrays)

    def test_keys_of_ones_own(self, federate):
        def client(message, context):
            assert set(message.content) == {"model", "settings"}
            assert message.content["settings"]["server-round"] == 1
            return RecordDict(
                {
                    "model": ArrayRecord({"w": np.full(1, 2.0)}),
                    "report": MetricRecord({"samples": 2, "loss": 1.0}),
                }
            )

        strategy = FedAvg(
            weighted_by_key="samples", arrayrecord_key="model", configrecord_key="settings"
        )
        initial = ArrayRecord({"w": np.zeros(1)})
        result = federate(strategy, client, initial=initial, num_rounds=1)
        assert result.arrays["w"].view().tolist() == [2.0]
        assert result.evaluate_metrics_clientapp[1]["loss"] == 1.0


class TestBadReplies:
    def replies(self, **changes):
        def client(message, context):
            reply = drift(message, context)
            if context.node_id == 2 and message.metadata.message_type == "train":
                arrays = {**reply["arrays"], **changes}
                reply["arrays"] = ArrayRecord({k: v for k, v in arrays.items() if v is not None})
            return reply

        return client

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"w": np.full((2, 3), np.nan, np.float32)}, "its array 'w' holds NaN"),
            ({"w": np.zeros((3, 2), np.float32)}, "'w' has shape (3, 2), not (2, 3)"),
            ({"w": None}, "missing ['w']"),
            ({"extra": np.zeros(1)}, "unexpected ['extra']"),
            ({"w": np.full((2, 3), "x")}, "has no sum"),
        ],
        ids=["nan", "shape", "missing", "extra", "text"],
    )
    def test_one_is_named_and_the_others_go_on(self, federate, changes, says):
        result = federate(FedAvg(), self.replies(**changes), initial=model(), num_rounds=1)
        (failure,) = result.failures
        where = (failure.server_round, failure.phase, failure.node_id, failure.kind)
        assert where == (1, "train", 2, "RejectedReply")
        assert says in failure.message

        def without(message, context):
            if context.node_id == 2 and message.metadata.message_type == "train":
                raise RuntimeError("away")
            return drift(message, context)

        others = federate(FedAvg(), without, initial=model(), num_rounds=1)
        assert bits(result.arrays) == bits(others.arrays)

    def test_nan_is_taken_on_request(self, federate):
        client = self.replies(w=np.full((2, 3), np.nan, np.float32))
        result = federate(FedAvg(require_finite=False), client, initial=model(), num_rounds=1)
        assert np.isnan(result.arrays["w"].view()).all()
        assert result.failures == []

    def test_weights_that_are_all_zero_end_the_run(self, federate):
        def client(message, context):
            reply = drift(message, context)
            reply["metrics"]["num-examples"] = 0
            return reply

        with pytest.raises(AggregationError, match="weights of all 4 replies are zero"):
            federate(FedAvg(), client, initial=model())

    def test_all_failed_says_why(self, federate):
        def client(message, context):
            raise ValueError(f"no data on {context.node_id}")

        with pytest.raises(NotEnoughReplies, match="node 0: ValueError: no data on 0") as caught:
            federate(FedAvg(), client, initial=model())
        facts = {"round": 1, "phase": "train", "replies": 0, "needed": 1}
        assert caught.value.context == facts

    def test_one_reply_is_a_mean(self, federate):
        def client(message, context):
            if context.node_id != 1:
                raise ValueError
            return drift(message, context)

        result = federate(FedAvg(), client, initial=model(), num_rounds=1)
        assert result.train_metrics_clientapp[1]["loss"] == 1.0
        assert len(result.failures) == 6

    def test_replies_of_another_model_than_the_current_have_no_update(self, federate):
        class Loose(FedAdam):
            def train_aggregator(self, server_round):
                aggregator = super().train_aggregator(server_round)
                aggregator.shapes = {}
                return aggregator

        def client(message, context):
            arrays = ArrayRecord({"other": np.ones(1)})
            return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})

        with pytest.raises(AggregationError, match="do not match the global model"):
            federate(Loose(), client, initial=model())


def test_a_model_that_clients_make_themselves(federate):
    def client(message, context):
        assert len(message.content["arrays"]) in (0, 1)
        arrays = ArrayRecord({"trees": np.ones(2)})
        return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})

    result = federate(FedAvg(), client, initial=ArrayRecord(), num_rounds=2)
    assert result.arrays["trees"].view().tolist() == [1.0, 1.0]


def test_messages_own_their_dictionary(federate):
    class PerNode(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            messages = list(super().configure_train(server_round, arrays, config, grid))
            for message in messages:
                own = message.content["config"].copy()
                own["lr"] = float(message.metadata.dst_node_id)
                message.content["config"] = own
            return messages

    def client(message, context):
        if message.metadata.message_type == "train":
            assert message.content["config"]["lr"] == float(context.node_id)
        return drift(message, context)

    assert federate(PerNode(), client, initial=model(), num_rounds=1).failures == []


@pytest.mark.parametrize(
    "options",
    [
        {"fraction_train": 1.5},
        {"fraction_evaluate": -0.1},
        {"fraction_train": float("nan")},
        {"min_train_nodes": -1},
        {"min_evaluate_nodes": "2"},
        {"train_sampler": 3},
        {"server_optimizer": "adam"},
        {"min_completion": 1.5},
        {"min_completion": 0.0},
        {"min_completion": -1},
        {"max_repeats": -1},
        {"on_shortfall": "ignore"},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(options):
    with pytest.raises(ConfigError):
        FedAvg(**options)
