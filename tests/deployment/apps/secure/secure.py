"""Four clients whose updates the server must not see."""

import fcntl

import numpy as np

from umbel.clientapp import ClientApp, secagg_mod
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg, with_secagg

SIZE = 30_000  # bytes enough for an object of its own


def break_down(message, context, call_next):
    """Fail at the step of the protocol at which this node is to be broken."""
    told = message.content.config_records.get("secagg", {})
    node, _, step = str(context.run_config["broken"]).partition("@")
    if told.get("stage") == step and str(context.node_config["partition-id"]) == node:
        raise OSError(f"broken at {step}")
    return call_next(message, context)


client, server = ClientApp(mods=[break_down, secagg_mod()]), ServerApp()


@client.train()
def train(message, context):
    node = context.node_config["partition-id"]
    gate = context.run_config["gate"]
    if gate and node == 3:
        with open(gate) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    before = context.state["calls"]["n"] if "calls" in context.state else 0
    context.state["calls"] = MetricRecord({"n": before + 1})
    step = 9.0 if node == context.run_config["lost"] else 0.1 * (node + before + 1)
    arrays = ArrayRecord({"w": message.content["arrays"]["w"].numpy() + np.float32(step)})
    metrics = MetricRecord({"num-examples": 1 + node, "step": step})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@server.main()
def main(grid, context):
    config = context.run_config
    strategy = with_secagg(
        FedAvg(fraction_evaluate=0, min_available_nodes=4),
        weight_max=4,
        threshold=config["threshold"],
        metrics={"step": 10.0},
        stage_timeout_s=config["timeout"],
    )
    first = ArrayRecord({"w": np.zeros(SIZE, np.float32)})
    return strategy.start(grid, first, num_rounds=2, timeout=config["timeout"])
