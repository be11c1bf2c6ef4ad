"""Server apps of several kinds, chosen by the run's configuration."""

import fcntl
import os
from pathlib import Path

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

client, server = ClientApp(), ServerApp()


def calls_so_far(context):
    return context.state["calls"]["n"] if "calls" in context.state else 0


@client.train()
def train(message, context):
    calls = calls_so_far(context) + 1
    context.state["calls"] = MetricRecord({"n": calls})
    gate = context.run_config["gate"]
    if gate and calls > 1:
        with open(gate) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    if context.run_config["scenario"] == "clients fail":
        raise ValueError("no such column: age")
    node = context.node_config["partition-id"]
    arrays = ArrayRecord({"w": message.content["arrays"]["w"].numpy() + node + 1})
    metrics = MetricRecord({"num-examples": 1, "node": node, "calls": calls})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@client.query("whoami")
def whoami(message, context):
    asked = message.content["config"]["asked"]
    facts = {"answer": f"{asked}, says {context.node_config['partition-id']}", "pid": os.getpid()}
    return Message(RecordDict({"facts": ConfigRecord(facts)}), reply_to=message)


class Largest(FedAvg):
    """The model of the client with the largest number."""

    def aggregate_train(self, server_round, replies):
        seen = [reply for reply in replies if reply.has_content()]
        best = max(seen, key=lambda reply: reply.content["metrics"]["node"])
        return best.content["arrays"], MetricRecord({"seen": len(seen)})


def learn(strategy, grid, config):
    first = ArrayRecord({"w": np.zeros(config["size"])})
    return strategy.start(grid, first, num_rounds=config["num-rounds"])


def loop(grid, rounds):
    """Push and pull by hand, with queries in between."""
    model = np.zeros(4)
    nodes = grid.get_node_ids()
    for _ in range(rounds):
        content = RecordDict({"arrays": ArrayRecord({"w": model})})
        open_ids = set(grid.push_messages(Message(content, node, "train") for node in nodes))
        replies = []
        while open_ids:
            came = grid.pull_messages(open_ids)
            open_ids -= {reply.metadata.reply_to_message_id for reply in came}
            replies += came
        model = sum(reply.content["arrays"]["w"].numpy() for reply in replies)
    asked = RecordDict({"config": ConfigRecord({"asked": "who"})})
    replies = grid.send_and_receive(Message(asked, node, "query.whoami") for node in nodes)
    answers = [reply.content["facts"]["answer"] for reply in replies]
    assert answers == [f"who, says {node}" for node in nodes], answers
    print("the loop ends with", model.tolist())


@server.main()
def main(grid, context):
    scenario = context.run_config["scenario"]
    if scenario == "loop":
        return loop(grid, context.run_config["num-rounds"])
    if scenario == "server fails":
        raise RuntimeError(f"no such file: {Path('missing.csv')}")
    kind = Largest if scenario == "overridden" else FedAvg
    nodes = context.run_config["nodes"]
    strategy = kind(fraction_evaluate=0, min_train_nodes=nodes, min_available_nodes=nodes)
    return learn(strategy, grid, context.run_config)
