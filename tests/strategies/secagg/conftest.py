"""Eight clients that train a small model, with and without the mod of secure aggregation."""

import numpy as np
import pytest

from umbel.clientapp import secagg_mod
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

NODES = 8
TARGETS = np.random.default_rng(5).standard_normal((NODES, 12)).astype(np.float32)


@pytest.fixture
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


@pytest.fixture
def handler():
    """Return a client that answers in the clear."""

    def answer(message, context):
        is_train = message.metadata.message_type == "train"
        return (train if is_train else evaluate)(message, context)

    return answer


@pytest.fixture
def secure(handler):
    """Return what makes a client with the mod; ``fails(node, stage)`` says where it breaks."""

    def make(inner=handler, mod=None, fails=None):
        mod = mod or secagg_mod()

        def client(message, context):
            told = message.content.config_records.get("secagg", ConfigRecord())
            stage = told.get("stage", "")
            if stage and fails is not None and fails(context.node_id, stage):
                raise OSError(f"node {context.node_id} lost power at {stage}")

            def call_next(message, context):
                return Message(inner(message, context), reply_to=message)

            return mod(message, context, call_next).content

        return client

    return make


@pytest.fixture
def plain(handler):
    """Return what makes a client without it, some of whose nodes fail to train."""

    def make(*failing, inner=handler):
        def client(message, context):
            if message.metadata.message_type == "train" and context.node_id in failing:
                raise OSError("failed")
            return inner(message, context)

        return client

    return make


@pytest.fixture
def gap():
    """Return what measures how far two models lie apart."""

    def between(ours, theirs):
        return max(
            float(np.abs(np.subtract(ours[k].view(), theirs[k].view(), dtype=float)).max())
            for k in theirs
        )

    return between


@pytest.fixture
def learn(federate, model):
    def run(strategy, client, **options):
        defaults = {"initial": model, "nodes": NODES, "num_rounds": 1}
        return federate(strategy, client, **{**defaults, **options})

    return run
