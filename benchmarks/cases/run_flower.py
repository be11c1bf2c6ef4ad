"""The same clients on Flower's simulation (Message API, Ray backend)."""

from __future__ import annotations

import sys
import time

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from cases.report import print_report, seconds_alive

_loaded: dict = {}


def train_trivial(message, context):
    from cases.trivial import add_one

    arrays = add_one(message.content["arrays"].to_numpy_ndarrays())
    metrics = MetricRecord({"num-examples": int(context.node_config["partition-id"]) + 1})
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
    return Message(content, reply_to=message)


def train_cnn(message, context):
    import torch

    from cases.cnn import load, make_net, train

    if not _loaded:
        torch.set_num_threads(1)
        _loaded.update(data=load(), net=make_net())
    net = _loaded["net"]
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    loss = train(net, *_loaded["data"], int(context.node_config["partition-id"]))
    metrics = MetricRecord({"num-examples": 600, "loss": loss})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


class TimedFedAvg(FedAvg):
    """FedAvg that notes how long each round takes, from configuring to the new model."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seconds = []

    def configure_train(self, *arguments, **keywords):
        self.begin = time.perf_counter()
        return super().configure_train(*arguments, **keywords)

    def aggregate_train(self, *arguments, **keywords):
        outcome = super().aggregate_train(*arguments, **keywords)
        self.seconds.append(time.perf_counter() - self.begin)
        return outcome


def main() -> None:
    kind, clients, size, rounds, workers = sys.argv[1], *map(int, sys.argv[2:6])
    client, server, started, seconds = ClientApp(), ServerApp(), [], []
    client.train()(train_trivial if kind == "trivial" else train_cnn)

    @server.main()
    def serve(grid, context):
        if kind == "trivial":
            from cases.trivial import make_model

            arrays, fraction = ArrayRecord(make_model(size)), 1.0
        else:
            from cases.cnn import CLIENTS, make_net

            arrays, fraction = ArrayRecord(make_net().state_dict()), clients / CLIENTS
        started.append(seconds_alive())
        strategy = TimedFedAvg(fraction_train=fraction, fraction_evaluate=0.0)
        strategy.start(grid, arrays, num_rounds=rounds)
        seconds.extend(strategy.seconds)

    nodes = clients if kind == "trivial" else 100
    resources = {"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": workers}}
    run_simulation(server, client, nodes, backend_config=resources)
    # Its workers start with the first round, so that counts as start-up, as in Umbel.
    print_report(seconds, started[0])


if __name__ == "__main__":
    main()
