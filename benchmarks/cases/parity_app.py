"""A federation written for Flower: it runs there and, as it is, under `python -m umbel.flwr`.

Ten clients of unequal size learn to read scikit-learn's digits with a small network in NumPy.
"""

import json
import sys
import time
import warnings

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import fixedclipping_mod as old_clipping
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.common import Context, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server import strategy as old
from flwr.serverapp import ServerApp
from flwr.serverapp import strategy as new
from flwr.simulation import run_simulation, start_simulation

NODES, ROUNDS, BATCH, RATE = 10, 5, 16, np.float32(0.1)


def model(dtype):
    rng = np.random.default_rng(0)
    shapes = [(64, 32), (32,), (32, 10), (10,)]
    return [rng.normal(0, 0.1, shape).astype("f4").astype(dtype) for shape in shapes]


def train(arrays, partition, data, mu):
    """Train one epoch on a partition; return the model, the number of examples, the last loss.

    Training is in float32, whatever the server sums in, and what it adds goes to the very model
    that was sent: a weight that no image moves comes back as it was.
    """
    # A hair up, which changes no float32: so that two servers in float64 that differ in the last
    # bit of a model that lies half-way between two float32 send their clients the same.
    sent = [np.asarray(array * (1 + 1.4e-8), "f4") for array in arrays]
    w1, b1, w2, b2 = (array.copy() for array in sent)
    # Of 1500 images, partition p has p + 1 parts in 55, mostly of a few digits.
    low, high = (1500 * p * (p + 1) // 110 for p in (partition, partition + 1))
    with np.load(data) as digits:
        images, labels = digits["images"][low:high], digits["labels"][low:high]
    order = np.random.default_rng(1000 + partition).permutation(high - low)
    loss = 0.0
    for start in range(0, len(order), BATCH):
        own = order[start : start + BATCH]
        x, y = images[own], labels[own]
        # Smooth on purpose: at a kink, the last bit of a weight could turn a gradient on or off.
        hidden = np.tanh(x @ w1 + b1)
        scores = hidden @ w2 + b2
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        loss = float(-np.log(scores[np.arange(len(y)), y] + np.float32(1e-9)).mean())
        scores[np.arange(len(y)), y] -= 1
        scores /= np.float32(len(y))
        back = (scores @ w2.T) * (1 - hidden * hidden)
        steps = [x.T @ back, back.sum(axis=0), hidden.T @ scores, scores.sum(axis=0)]
        for weight, step, origin in zip((w1, b1, w2, b2), steps, sent, strict=True):
            weight -= RATE * (step + mu * (weight - origin))
    ends = zip(arrays, (w1, b1, w2, b2), sent, strict=True)
    return [array + (end - begin) for array, end, begin in ends], high - low, loss


def is_private(case):
    return case["strategy"].startswith("DifferentialPrivacy")


def weight(case, count):
    """Return what a client weighs: those that are clipped and noised weigh the same."""
    return 1 if is_private(case) else count


def mods(case, mod):
    return [mod] if "ClientSide" in case["strategy"] else []


def wrapped(case, api, inner):
    """Return a strategy in a wrapper for differential privacy, without any noise."""
    kind = getattr(api, case["strategy"])
    return kind(inner, noise_multiplier=0.0, num_sampled_clients=NODES, **case["options"])


def message_apps(case, out):
    data = case["data"]
    client, server = ClientApp(mods=mods(case, fixedclipping_mod)), ServerApp()

    @client.train()
    def fit(message, context):
        arrays = message.content["arrays"].to_numpy_ndarrays()
        mu = np.float32(message.content["config"].get("proximal-mu", 0.0))
        arrays, count, loss = train(arrays, int(context.node_config["partition-id"]), data, mu)
        metrics = MetricRecord({"num-examples": weight(case, count), "train_loss": loss})
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
        return Message(content, reply_to=message)

    @server.main()
    def main(grid, context):
        # Flower starts the server before it has registered all nodes, and a fraction of 1 is then
        # one of those that happen to be there.
        options = {"fraction_evaluate": 0.0, "min_train_nodes": NODES}
        if is_private(case):
            strategy = wrapped(case, new, new.FedAvg(**options))
        else:
            strategy = getattr(new, case["strategy"])(**options | case["options"])
        begin = time.perf_counter()
        result = strategy.start(grid, ArrayRecord(model(case["dtype"])), num_rounds=ROUNDS)
        np.savez(out, *result.arrays.to_numpy_ndarrays(), seconds=time.perf_counter() - begin)

    return server, client


class Client(NumPyClient):
    def __init__(self, partition, case):
        self.partition, self.case = partition, case

    def fit(self, parameters, config):
        mu = np.float32(config.get("proximal_mu", 0.0))
        arrays, count, loss = train(parameters, self.partition, self.case["data"], mu)
        return arrays, weight(self.case, count), {"train_loss": loss}


def older_strategy(case, out):
    """Return a strategy of the older API that keeps every round's model in a file."""

    class Kept(getattr(old, "FedAvg" if is_private(case) else case["strategy"])):
        def configure_fit(self, server_round, parameters, client_manager):
            if server_round == 1:
                self.begin = time.perf_counter()
            return super().configure_fit(server_round, parameters, client_manager)

        def aggregate_fit(self, server_round, results, failures):
            parameters, metrics = super().aggregate_fit(server_round, results, failures)
            seconds = time.perf_counter() - self.begin
            np.savez(out, *parameters_to_ndarrays(parameters), seconds=seconds)
            return parameters, metrics

    initial = ndarrays_to_parameters(model(case["dtype"]))
    options = {
        "fraction_evaluate": 0.0,
        "min_fit_clients": NODES,
        "min_available_clients": NODES,
        "initial_parameters": initial,
    }
    if is_private(case):
        return wrapped(case, old, Kept(**options))
    return Kept(**options | case["options"])


def run(case, out):
    def make_client(context: Context):
        return Client(int(context.node_config["partition-id"]), case).to_client()

    config = ServerConfig(num_rounds=ROUNDS)
    if case["api"] == "start_simulation":
        start_simulation(
            client_fn=make_client,
            num_clients=NODES,
            config=config,
            strategy=older_strategy(case, out),
        )
        return
    if case["api"] == "message":
        apps = message_apps(case, out)
    else:

        def make_server(context):
            return ServerAppComponents(config=config, strategy=older_strategy(case, out))

        client = ClientApp(client_fn=make_client, mods=mods(case, old_clipping))
        apps = ServerApp(server_fn=make_server), client
    run_simulation(*apps, num_supernodes=NODES)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    run(json.loads(sys.argv[1]), sys.argv[2])
