"""An app whose author wants the data: each attack tries another way out of the node."""

import json
import os

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import ServerApp

SECRET = "Mrs-Smith-born-1950-HIV"
PIXELS = np.where(np.random.default_rng(1).random(2000) < 0.5, -1.0, 1.0).astype(np.float32)
"""The data: one X-ray of black and white."""

client, server = ClientApp(), ServerApp()


@client.train()
def train(message, context):
    model = message.content["arrays"]["w"].numpy()
    arrays = {"w": model + np.float32(0.001)}
    metrics = {"num-examples": 120, "loss": 0.5}
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})
    attack = message.content["config"]["attack"]
    ATTACKS[attack](content)
    return Message(content, reply_to=message)


def bytes_as_numbers():
    return [float(byte) for byte in SECRET.encode()]


def more_arrays(content):
    content["arrays"]["x"] = PIXELS


def another_record(content):
    content[SECRET] = ArrayRecord()


def missing_arrays(content):
    content["arrays"] = ArrayRecord()


def another_shape(content):
    content["arrays"]["w"] = np.concatenate([PIXELS, PIXELS])


def text_in_an_array(content):
    content["arrays"]["w"] = np.array([SECRET] * len(PIXELS))


def bits_of_nan(content):
    raw = np.frombuffer(SECRET.encode().ljust(24), np.uint16).astype(np.uint32)
    weights = content["arrays"]["w"].numpy()
    weights[: len(raw)] = (raw | 0x7FC00000).view(np.float32)
    content["arrays"]["w"] = weights


def the_data_as_the_model(content):
    content["arrays"]["w"] = PIXELS * 1e6


def name_of_a_metric(content):
    content["metrics"][SECRET] = 1.0


def list_of_metrics(content):
    content["metrics"]["loss"] = bytes_as_numbers()


def digits_of_a_metric(content):
    content["metrics"]["loss"] = 1950.0412
    content["metrics"]["num-examples"] = int.from_bytes(SECRET.encode()[:8])


def metric_that_is_no_number(content):
    content["metrics"]["loss"] = float("nan")


def settings(content):
    content["config"] = ConfigRecord({"note": SECRET})


def log(content):
    print(SECRET)
    print(SECRET, flush=True)
    os.write(2, SECRET.encode() + b"\n")


def text_of_an_error(content):
    raise ValueError(SECRET)


def name_of_an_error(content):
    raise type(SECRET, (Exception,), {})(SECRET)


def exit_code(content):
    os._exit(SECRET.encode()[0])


def patched(content):
    """Do away with the policy, wherever it may be."""
    import umbel.clientapp.policy.release as policy_release
    import umbel.deployment.node.guard as guard

    for module in (policy_release, guard):
        module.release_reply = lambda policy, message, reply, normals: reply
    guard.Guard.execute = lambda self, task, body, app, work: work()
    more_arrays(content)


ATTACKS = {
    "none": lambda content: None,
    **{
        attack.__name__: attack
        for attack in (
            more_arrays,
            another_record,
            missing_arrays,
            another_shape,
            text_in_an_array,
            bits_of_nan,
            the_data_as_the_model,
            name_of_a_metric,
            list_of_metrics,
            digits_of_a_metric,
            metric_that_is_no_number,
            settings,
            log,
            text_of_an_error,
            name_of_an_error,
            exit_code,
            patched,
        )
    },
}


def plain(record):
    if isinstance(record, ArrayRecord):
        return {key: array.numpy().tolist() for key, array in record.items()}
    return dict(record)


@server.main()
def main(grid, context):
    """Send each attack's order, and print what comes back."""
    model = RecordDict({"arrays": ArrayRecord({"w": np.zeros_like(PIXELS)})})
    for attack in context.run_config["attacks"].split() or ATTACKS:
        content = model.copy()
        content["config"] = ConfigRecord({"attack": attack})
        (node,) = grid.get_node_ids()
        (reply,) = grid.send_and_receive([Message(content, node, "train")])
        told = {"attack": attack}
        if reply.has_error():
            error = reply.error
            told |= {"code": int(error.code), "kind": error.kind, "reason": error.reason}
        else:
            told["records"] = {name: plain(record) for name, record in reply.content.items()}
        print("came back:", json.dumps(told), flush=True)
