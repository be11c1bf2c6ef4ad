"""FedPer and FedBN: what every client keeps for itself is in no sum."""

import numpy as np
import pytest

from umbel.base import ConfigError, NotEnoughReplies
from umbel.clientapp import personal_layers_mod, secagg_mod
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.strategies import FedBN, FedPer, with_distributed_dp, with_secagg

NODES = 8


@pytest.fixture
def model():
    return ArrayRecord(
        {
            "body": np.zeros((2, 3), np.float32),
            "bn1.weight": np.ones(2, np.float32),
            "bn1.num_batches_tracked": np.array(0),
            "tail": np.zeros(4),
        }
    )


@pytest.fixture
def handler():
    """Return clients that move each array by a number of their own, and tell what "bn1" is."""

    def answer(message, context):
        arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
        metrics = {"num-examples": 1 + context.node_id, "bn": float(arrays["bn1.weight"][0])}
        content = RecordDict({"metrics": MetricRecord(metrics)})
        if message.metadata.message_type == "train":
            for value in arrays.values():
                value += (1 + context.node_id) / 10 if value.dtype.kind == "f" else 1000
            content["arrays"] = ArrayRecord(arrays)
        return content

    return answer


@pytest.fixture
def keeping(handler):
    """Return what makes the inner part of clients that keep some arrays."""

    def make(personal):
        mod = personal_layers_mod(personal)

        def client(message, context):
            def call_next(message, context):
                return Message(handler(message, context), reply_to=message)

            return mod(message, context, call_next).content

        return client

    return make


@pytest.mark.parametrize("make", [FedBN, lambda: FedPer(personal=["bn1.*"])], ids=["bn", "per"])
def test_the_mean_is_the_plain_one_and_personal_arrays_stay(
    learn, secure, plain, keeping, gap, make, model
):
    inner = keeping(make().personal)
    ours = learn(
        with_secagg(make(), weight_max=NODES, metrics={"bn": 10.0}), secure(inner), num_rounds=3
    )
    theirs = learn(make(), plain(inner=inner), num_rounds=3)
    assert ours.failures == []
    assert gap(ours.arrays, theirs.arrays) < 1e-6
    assert list(ours.arrays) == list(model)
    for key in ("bn1.weight", "bn1.num_batches_tracked"):
        assert ours.arrays[key] == model[key]
    # Each goes on from its own.
    assert ours.train_metrics_clientapp[3]["bn"] == pytest.approx(
        theirs.train_metrics_clientapp[3]["bn"], abs=1e-6
    )
    assert ours.train_metrics_clientapp[3]["bn"] > 1.5


def test_the_vector_holds_the_shared_arrays_alone(learn, secure, keeping):
    seen = []

    def client(message, context):
        content = secure(keeping(["bn1.*"]))(message, context)
        seen.extend(record["vector"].view().size for record in content.array_records.values())
        return content

    learn(with_secagg(FedPer(personal=["bn1.*"]), weight_max=NODES), client)
    assert seen == [1 + 6 + 4] * NODES


def test_a_client_that_would_send_one_says_what_it_lacks(learn, secure):
    strategy = with_secagg(FedPer(personal=["bn1.*"]), weight_max=NODES)
    with pytest.raises(NotEnoughReplies, match=r"secagg_mod\(\), personal_layers_mod\(\['bn1"):
        learn(strategy, secure())


def test_a_model_with_nothing_to_share_is_refused(learn, secure):
    with pytest.raises(ConfigError, match="every array"):
        learn(with_secagg(FedPer(personal=["*"]), weight_max=NODES), secure())


def test_with_noise_that_the_clients_add(learn, secure, keeping, model):
    def strategy(clipping):
        return with_distributed_dp(
            FedBN(), noise_multiplier=1e-6, clipping=clipping, cohort=NODES, delta=1e-5
        )

    ours = learn(strategy(100.0), secure(keeping(FedBN().personal), secagg_mod()))
    for key in ("body", "tail"):
        assert ours.arrays[key].view() == pytest.approx(
            np.full(model[key].shape, np.mean(np.arange(1, 9) / 10)), abs=1e-3
        )
    assert ours.arrays["bn1.weight"] == model["bn1.weight"]
    # The bound is on what is shared: ten numbers that move by 0.8 at most.
    within = learn(strategy(float(np.sqrt(10) * 0.81)), secure(keeping(FedBN().personal)))
    assert within.arrays["tail"].view() == pytest.approx(np.full(4, 0.45), abs=1e-3)
