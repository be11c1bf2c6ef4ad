"""A federation written for Flower: it runs there and, as it is, under `python -m umbel.flwr`."""

import sys
import time

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server import strategy as old
from flwr.serverapp import ServerApp
from flwr.serverapp import strategy as new
from flwr.simulation import run_simulation

NODES, ROUNDS = 10, 5


def model():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(20, 5)).astype("f4"), np.zeros(5, "f4")]


def train(arrays, partition):
    """Least squares on data of this partition; return the model and the number of examples."""
    rng = np.random.default_rng(1000 + partition)
    count = 20 + 10 * partition
    x = rng.normal(size=(count, 20)).astype("f4")
    y = (x @ rng.normal(size=(20, 5)) + partition).astype("f4")
    for _ in range(20):
        error = (x @ arrays[0] + arrays[1] - y) / count
        arrays[0] = arrays[0] - np.float32(0.05) * (x.T @ error)
        arrays[1] = arrays[1] - np.float32(0.05) * error.sum(axis=0)
    return arrays, count


def message_apps(name, options, path):
    client, server = ClientApp(), ServerApp()

    @client.train()
    def fit(message, context):
        arrays = message.content["arrays"].to_numpy_ndarrays()
        arrays, count = train(arrays, int(context.node_config["partition-id"]))
        metrics = MetricRecord({"num-examples": count})
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
        return Message(content, reply_to=message)

    @server.main()
    def main(grid, context):
        strategy = getattr(new, name)(fraction_evaluate=0.0, **options)
        begin = time.perf_counter()
        result = strategy.start(grid, ArrayRecord(model()), num_rounds=ROUNDS)
        np.savez(path, *result.arrays.to_numpy_ndarrays(), seconds=time.perf_counter() - begin)

    return server, client


class Client(NumPyClient):
    def __init__(self, partition):
        self.partition = partition

    def fit(self, parameters, config):
        return *train(parameters, self.partition), {}


def old_apps(name, options, path):
    class Kept(getattr(old, name)):
        def aggregate_fit(self, server_round, results, failures):
            parameters, metrics = super().aggregate_fit(server_round, results, failures)
            seconds = time.perf_counter() - begin[0]
            np.savez(path, *parameters_to_ndarrays(parameters), seconds=seconds)
            return parameters, metrics

    begin = []

    def make_server(context):
        begin.append(time.perf_counter())
        initial = ndarrays_to_parameters(model())
        strategy = Kept(fraction_evaluate=0.0, initial_parameters=initial, **options)
        return ServerAppComponents(config=ServerConfig(num_rounds=ROUNDS), strategy=strategy)

    def make_client(context):
        return Client(int(context.node_config["partition-id"])).to_client()

    return ServerApp(server_fn=make_server), ClientApp(client_fn=make_client)


if __name__ == "__main__":
    api, strategy_name, out = sys.argv[1:4]
    settings = {key: float(value) for key, _, value in (a.partition("=") for a in sys.argv[4:])}
    apps = (message_apps if api == "message" else old_apps)(strategy_name, settings, out)
    run_simulation(*apps, num_supernodes=NODES)
