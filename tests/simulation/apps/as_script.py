"""A program that defines its apps itself, as in a notebook, and simulates them."""

import sys

import numpy as np

from umbel import run_simulation
from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

STEP = np.float32(0.5)
client, server = ClientApp(), ServerApp()


class Model:
    def __init__(self, weights):
        self.weights = weights

    def improved(self):
        return self.weights + STEP


@client.train()
def train(message, context):
    print(f"node {context.node_id} trains")
    model = Model(message.content["arrays"].views()["w"])
    content = {
        "arrays": ArrayRecord({"w": model.improved()}),
        "metrics": MetricRecord({"num-examples": 1}),
    }
    return Message(RecordDict(content), reply_to=message)


@server.main()
def main(grid, context):
    arrays = ArrayRecord({"w": np.zeros(3, np.float32)})
    return FedAvg(fraction_evaluate=0).start(grid, arrays, num_rounds=2)


if __name__ == "__main__":
    result = run_simulation(server, client, 4, sys.argv[1])
    print("model", result.arrays.views()["w"].tolist())
