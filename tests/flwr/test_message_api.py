"""The Message API's strategies: Umbel's sums with Flower's answers to what goes wrong."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from umbel import flwr as fl
from umbel.records import ArrayRecord, Context, Message, MetricRecord, RecordDict

FedAvg = fl.serverapp.strategy.FedAvg


def add_one(message: Message, context: Context) -> RecordDict:
    arrays = [a + 1 for a in message.content["arrays"].to_numpy_ndarrays()]
    metrics = MetricRecord({"num-examples": 1, "node": float(context.node_id)})
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})


def fail(message: Message, context: Context) -> RecordDict:
    raise ValueError("no data")


def test_a_round_that_nothing_came_of_leaves_the_model(federate: Any) -> None:
    result = federate(FedAvg(), fail, initial=ArrayRecord([np.ones(2)]), num_rounds=2)
    assert result.arrays.to_numpy_ndarrays()[0].tolist() == [1, 1]
    assert len(result.failures) == 16
    assert result.train_metrics_clientapp == {}


@pytest.mark.parametrize("name", ["FedAvg", "FedAvgM"])
def test_arguments_stand_where_flower_has_them(name: str, federate: Any) -> None:
    kind = getattr(fl.serverapp.strategy, name)
    strategy = kind(fraction_train=0.5, fraction_evaluate=0.0, min_train_nodes=1)
    result = federate(strategy, add_one, initial=ArrayRecord([np.zeros(2)]), num_rounds=3)
    assert result.arrays.to_numpy_ndarrays()[0].tolist() == [3, 3]
    assert result.evaluate_metrics_clientapp == {}
    assert FedAvg(0.25, 0.5, 3).min_train_nodes == 3


def test_random_seed_repeats_who_takes_part(federate: Any) -> None:
    def chosen(seed: int) -> Any:
        strategy = FedAvg(fraction_train=0.2, fraction_evaluate=0.0)
        cohorts = []

        class Watching(FedAvg):
            def configure_train(self, *args: Any) -> Any:
                messages = list(strategy.configure_train(*args))
                cohorts.append([m.metadata.dst_node_id for m in messages])
                return messages

        def main(grid: Any, context: Context) -> Any:
            random.seed(seed)
            return Watching().start(grid, ArrayRecord([np.zeros(1)]), num_rounds=3)

        federate(strategy, add_one, nodes=20, main=main)
        return cohorts

    assert chosen(1) == chosen(1) != chosen(2)
    random_state = random.getstate()
    random.seed(1)
    assert chosen(1)[0] == random.sample(range(20), 4)
    random.setstate(random_state)


def test_overrides_may_build_messages_and_averages_themselves(federate: Any) -> None:
    parts = fl.serverapp.strategy.strategy_utils

    class Own(FedAvg):
        def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
            nodes, known = parts.sample_nodes(grid, 2, 3)
            assert len(known) == 4
            content = RecordDict({"arrays": arrays, "config": config})
            return self._construct_messages(content, nodes, "train")

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            contents = [reply.content for reply in replies]
            arrays = parts.aggregate_arrayrecords(contents, "num-examples")
            return arrays, parts.aggregate_metricrecords(contents, "num-examples")

    result = federate(Own(), add_one, initial=ArrayRecord([np.zeros(1)]), num_rounds=2)
    assert result.arrays.to_numpy_ndarrays()[0].tolist() == [2]
    assert set(result.train_metrics_clientapp[1]) == {"node"}
