"""FedXgbBagging and FedXgbCyclic with XGBoost itself at the clients."""

import numpy as np
import pytest
import xgboost

import umbel
from umbel.base import AggregationError, ConfigError, RoundError
from umbel.records import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from umbel.strategies import FedXgbBagging, FedXgbCyclic
from umbel.testing import FakeGrid

DRAWN = np.random.default_rng(5)
X = DRAWN.normal(size=(120, 4)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(int)
PARAMETERS = {
    "objective": "binary:logistic",
    "max_depth": 3,
    "nthread": 1,
    "base_score": 0.5,
    "eta": 0.5,
}
EMPTY = ArrayRecord([np.zeros(0, np.uint8)])


def boosted(raw, rows, iterations=1, **parameters):
    """Return XGBoost's model after some more iterations over these rows."""
    data = xgboost.DMatrix(X[rows], Y[rows], nthread=1)
    before = None if not len(raw) else bytearray(raw)
    start = None if before is None else load(before)
    return xgboost.train(PARAMETERS | parameters, data, iterations, xgb_model=start)


def load(raw):
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(raw))
    return booster


def margin(booster):
    return booster.predict(xgboost.DMatrix(X, nthread=1), output_margin=True)


def raw(booster):
    return bytes(booster.save_raw("json"))


def rows(node, nodes):
    return np.arange(len(X)) % nodes == node


def answer(message, model, **metrics):
    content = {
        "arrays": ArrayRecord([np.frombuffer(model, np.uint8)]),
        "metrics": MetricRecord({"num-examples": 1, **metrics}),
    }
    return Message(RecordDict(content), reply_to=message)


def bagging(message, nodes=3, iterations=1):
    if message.metadata.message_type == "evaluate":
        return evaluated(message)
    node = message.metadata.dst_node_id
    before = message.content["arrays"]["0"].numpy().tobytes()
    after = boosted(before, rows(node, nodes), iterations)
    return answer(message, raw(after[after.num_boosted_rounds() - iterations :]))


def cyclic(message, nodes=3):
    if message.metadata.message_type == "evaluate":
        return evaluated(message)
    before = message.content["arrays"]["0"].numpy().tobytes()
    return answer(message, raw(boosted(before, rows(message.metadata.dst_node_id, nodes))))


def evaluated(message):
    margins = margin(load(message.content["arrays"]["0"].numpy()))
    metrics = {"num-examples": 1, "accuracy": float(((margins > 0) == Y).mean())}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def final(result):
    return load(result.arrays["0"].numpy())


def test_one_client_is_plain_boosting():
    alone = FedXgbBagging(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
    result = alone.start(FakeGrid(lambda m: bagging(m, 1), 1), EMPTY, num_rounds=4)
    whole = boosted(b"", rows(0, 1), 4)
    assert raw(final(result)) == raw(whole)
    assert result.evaluate_metrics_clientapp[4]["accuracy"] > 0.9


def test_bagging_predicts_the_sum_of_what_clients_added():
    result = FedXgbBagging().start(FakeGrid(bagging, 3), EMPTY, num_rounds=2)
    first = [boosted(b"", rows(node, 3)) for node in range(3)]
    total = sum(map(margin, first))
    one = FedXgbBagging().start(FakeGrid(bagging, 3), EMPTY, num_rounds=1)
    assert np.allclose(margin(final(one)), total, atol=1e-5)
    before = one.arrays["0"].numpy().tobytes()
    second = [boosted(before, rows(node, 3))[3:] for node in range(3)]
    assert np.allclose(margin(final(result)), total + sum(map(margin, second)), atol=1e-5)
    assert final(result).num_boosted_rounds() == 6


def test_trees_stand_in_the_order_of_the_cohort_and_not_of_arrival():
    strategy, grid = FedXgbBagging(), FakeGrid(lambda m: bagging(m, 3, 2), 3)
    strategy.run, strategy.current_arrays = grid.run, EMPTY
    messages = list(strategy.configure_train(1, EMPTY, ConfigRecord(), grid))
    grid.run.begin_phase("train", [m.metadata.dst_node_id for m in messages])
    replies = list(grid.send_and_receive(messages))
    models = [
        strategy.aggregate_train(1, order)[0]["0"].numpy().tobytes()
        for order in (replies, replies[::-1], [replies[1], replies[2], replies[0]])
    ]
    assert len(set(models)) == 1
    trees = [m.get_dump()[0] for m in (boosted(b"", rows(node, 3)) for node in range(3))]
    assert load(models[0]).get_dump()[::2] == trees


def test_a_hostile_reply_is_named_and_the_others_are_kept():
    def handler(message):
        node, told = message.metadata.dst_node_id, message.metadata.message_type
        if told == "train" and node == 1:
            return answer(message, b'{"learner": {"gradient_booster": ')
        if told == "train" and node == 2:
            data = xgboost.DMatrix(X[:, :2], Y, nthread=1)
            return answer(message, raw(xgboost.train(PARAMETERS, data, 1)))
        return bagging(message, 4)

    start = boosted(b"", rows(0, 4))
    model = ArrayRecord([np.frombuffer(raw(start), np.uint8)])
    result = FedXgbBagging().start(FakeGrid(handler, 4), model, num_rounds=1)
    told = {failure.node_id: failure.message for failure in result.failures}
    assert told.keys() == {1, 2}
    assert "33 bytes are no JSON" in told[1]
    assert "features 2 and not 4" in told[2]
    assert final(result).num_boosted_rounds() == 3


def test_clients_that_disagree_from_the_start_end_the_run():
    def handler(message):
        objective = ["binary:logistic", "reg:squarederror"][message.metadata.dst_node_id]
        return answer(message, raw(boosted(b"", rows(0, 1), objective=objective)))

    with pytest.raises(AggregationError, match="reg:squarederror"):
        FedXgbBagging().start(FakeGrid(handler, 2), EMPTY, num_rounds=1)


@pytest.mark.parametrize(
    "arrays", [[np.zeros(3)], [np.ones(9, np.uint8)], [np.zeros(0, np.uint8)] * 2]
)
def test_an_initial_model_that_is_none_is_told(arrays):
    with pytest.raises(ConfigError, match="the global model is none of XGBoost's"):
        FedXgbBagging().start(FakeGrid(bagging, 2), ArrayRecord(arrays), num_rounds=1)


def test_metrics_can_be_aggregated_by_a_function_and_no_model_is_a_model_too():
    strategy = FedXgbBagging(
        train_metrics_aggr_fn=lambda contents, key: MetricRecord({"replies": len(contents)}),
        fraction_evaluate=0.0,
    )
    result = strategy.start(FakeGrid(bagging, 3), ArrayRecord(), num_rounds=0)
    assert len(result.arrays) == 0
    result = strategy.start(FakeGrid(bagging, 3), EMPTY, num_rounds=1)
    assert result.train_metrics_clientapp[1]["replies"] == 3


def test_clients_that_add_no_tree_leave_the_very_bytes():
    def handler(message):
        return answer(message, raw(boosted(b"", rows(0, 1), 0)))

    model = ArrayRecord([np.frombuffer(raw(boosted(b"", rows(0, 1))) + b" ", np.uint8)])
    strategy = FedXgbBagging(fraction_evaluate=0.0)
    result = strategy.start(FakeGrid(handler, 2), model, num_rounds=1)
    assert result.arrays["0"].numpy().tobytes() == model["0"].numpy().tobytes()


def test_cyclic_is_boosting_over_the_clients_in_turn():
    seen = []

    def handler(message):
        seen.append((message.metadata.message_type, message.metadata.dst_node_id))
        return cyclic(message)

    result = FedXgbCyclic().start(FakeGrid(handler, 3), EMPTY, num_rounds=4)
    assert seen == [(kind, node) for node in (0, 1, 2, 0) for kind in ("train", "evaluate")]
    model = b""
    for node in (0, 1, 2, 0):
        model = raw(boosted(model, rows(node, 3)))
    assert raw(final(result)) == model
    assert len(result.evaluate_metrics_clientapp) == 4


def test_cyclic_goes_on_to_the_next_when_a_round_is_repeated():
    def handler(message):
        if message.metadata.dst_node_id == 1:
            return Message(Error(1, "disk full"), reply_to=message)
        return cyclic(message)

    strategy = FedXgbCyclic(fraction_evaluate=0, on_shortfall="repeat")
    result = strategy.start(FakeGrid(handler, 3), EMPTY, num_rounds=2)
    assert [failure.node_id for failure in result.failures] == [1]
    expected = boosted(raw(boosted(b"", rows(0, 3))), rows(2, 3))
    assert raw(final(result)) == raw(expected)


def test_cyclic_takes_one_node_or_none():
    with pytest.raises(ConfigError, match="one node a round"):
        FedXgbCyclic(fraction_train=0.5)

    class ToAll(FedXgbCyclic):
        def configure_train(self, server_round, arrays, config, grid):
            content = RecordDict({"arrays": arrays, "config": config})
            return [Message(RecordDict(content), node, "train") for node in grid.get_node_ids()]

    with pytest.raises(AggregationError, match="only one can be the next"):
        ToAll().start(FakeGrid(cyclic, 2), EMPTY, num_rounds=1)
    with pytest.raises(RoundError, match="nodes"):
        FedXgbCyclic().start(FakeGrid(cyclic, 1), EMPTY, num_rounds=1)


def test_compression_refuses_trees():
    from umbel.strategies import with_compression
    from umbel.updates import TopK

    with pytest.raises(umbel.UmbelError):
        with_compression(FedXgbBagging(), TopK(0.5)).start(FakeGrid(bagging, 2), EMPTY)
