"""The same clients on Umbel's simulation."""

from __future__ import annotations

import sys

from cases.report import print_report, seconds_alive
from umbel import (
    ArrayRecord,
    ClientApp,
    Message,
    MetricRecord,
    RecordDict,
    ServerApp,
    run_simulation,
)
from umbel.strategies import FedAvg

trivial_client, cnn_client = ClientApp(), ClientApp()
_loaded: dict = {}


@trivial_client.train()
def train_trivial(message: Message, context) -> Message:
    from cases.trivial import add_one

    arrays = add_one(list(message.content["arrays"].views().values()))
    metrics = MetricRecord({"num-examples": context.node_id + 1})
    return Message(
        RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message
    )


@cnn_client.train()
def train_cnn(message: Message, context) -> Message:
    from cases.cnn import load, make_net, train

    if not _loaded:
        _loaded.update(data=load(), net=make_net())
    net = _loaded["net"]
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    loss = train(net, *_loaded["data"], context.node_id)
    metrics = MetricRecord({"num-examples": 600, "loss": loss})
    return Message(
        RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message
    )


def main() -> None:
    kind, clients, size, rounds, workers = sys.argv[1], *map(int, sys.argv[2:6])
    backend = sys.argv[6]
    server, started = ServerApp(), []

    @server.main()
    def serve(grid, context):
        if kind == "trivial":
            from cases.trivial import make_model

            arrays, fraction = ArrayRecord(make_model(size)), 1.0
        else:
            from cases.cnn import CLIENTS, make_net

            arrays, fraction = ArrayRecord(make_net().state_dict()), clients / CLIENTS
        started.append(seconds_alive())
        strategy = FedAvg(fraction_train=fraction, fraction_evaluate=0.0)
        return strategy.start(grid, arrays, num_rounds=rounds)

    result = run_simulation(
        server,
        f"cases.run_umbel:{kind}_client",
        clients if kind == "trivial" else 100,
        backend,
        {"workers": workers} if backend != "inprocess" else {},
        seed=7,
    )
    print_report([timing.train_s for timing in result.timings.values()], started[0])


if __name__ == "__main__":
    main()
