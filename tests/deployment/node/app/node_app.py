import os
import random
import signal
from pathlib import Path

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict

app = ClientApp()
print("the app is imported")


@app.train()
def train(message, context):
    seen = context.state["seen"]["n"] if "seen" in context.state else 0
    context.state["seen"] = MetricRecord({"n": seen + 1})
    arrays = message.content["arrays"]
    config = message.content["config"]
    metrics = {
        "seen": seen + 1,
        "node": context.node_config["partition-id"],
        "lr": config["lr"],
        "epochs": context.run_config["epochs"],
        "draw": random.random(),
    }
    moved = ArrayRecord({name: array.numpy() + 1 for name, array in arrays.items()})
    print("trained", seen + 1)
    return Message(
        RecordDict({"arrays": moved, "metrics": MetricRecord(metrics)}), reply_to=message
    )


@app.query("zeros")
def zeros(message, context):
    size = message.content["config"]["size"]
    arrays = ArrayRecord({"x": np.zeros(size, np.uint8)})
    return Message(RecordDict({"arrays": arrays}), reply_to=message)


@app.query("fail")
def fail(message, context):
    context.state["seen"] = MetricRecord({"n": 100})
    raise ValueError("secret data is empty")


@app.query("die")
def die(message, context):
    os.kill(os.getpid(), signal.SIGKILL)


@app.query("wait")
def wait(message, context):
    """Count, and wait until the test opens the other end of a pipe."""
    seen = context.state["seen"]["n"] if "seen" in context.state else 0
    context.state["seen"] = MetricRecord({"n": seen + 1})
    print("waiting")
    Path(message.content["config"]["pipe"]).read_bytes()
    metrics = MetricRecord({"seen": seen + 1})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
