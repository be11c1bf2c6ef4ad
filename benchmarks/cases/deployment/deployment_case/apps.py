"""Clients that add a random number to a random model, so that no two replies are alike."""

import secrets

import numpy as np

from umbel import ClientApp, ServerApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.strategies import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message, context):
    shift = np.float32(secrets.randbelow(1 << 20) / (1 << 20))
    arrays = {key: view + shift for key, view in message.content["arrays"].views().items()}
    metrics = MetricRecord({"num-examples": 1})
    return Message(
        RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message
    )


def random_model(kilobytes):
    draw = np.random.default_rng()
    size = kilobytes * 1000 // 8 // 4
    return ArrayRecord([draw.random(size, dtype=np.float32) for _ in range(8)])


@server.main()
def main(grid, context):
    config = context.run_config
    nodes = config["nodes"]
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_train_nodes=nodes,
        min_available_nodes=nodes,
        require_finite=False,
    )
    return strategy.start(grid, random_model(config["kilobytes"]), num_rounds=config["rounds"])
