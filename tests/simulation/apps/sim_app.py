"""A client app whose clients do what the message's config tells them, however bad."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import (
    ArrayRecord,
    ConfigRecord,
    Error,
    ErrorCode,
    Message,
    MetricRecord,
    RecordDict,
)

app = ClientApp()
kept = []


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class OddText(str):
    pass


class Verbose(Exception):
    def __str__(self):
        return OddText("a text of a type of its own")


@app.train()
def train(message, context):
    config = message.content["config"]
    victims = config.get("nodes", [])
    if not victims or context.node_id in victims:
        return BEHAVIOURS[config["do"]](message, context)
    return learn(message, context)


def learn(message, context):
    """Depend on everything that must be the same wherever the client runs."""
    state = context.state.setdefault("state", MetricRecord({"calls": 0, "sum": 0.0}))
    state["calls"] += 1
    state["sum"] += random.random()
    noise = np.random.normal(size=3).astype(np.float32)
    values = {
        key: view + np.float32(0.1) * noise[len(key) % 3] + np.float32(state["sum"])
        for key, view in _views(message).items()
    }
    return reply(message, context, values, loss=random.random(), calls=state["calls"])


def learn_with_torch(message, context):
    import torch  # only now: it must be seeded all the same

    noise = torch.randn(3).numpy()
    values = {key: view + noise[0] for key, view in _views(message).items()}
    return reply(message, context, values, loss=float(torch.rand(())))


def reply(message, context, values, **metrics):
    metrics["num-examples"] = 1 + context.node_id % 5
    content = {"arrays": ArrayRecord(values), "metrics": MetricRecord(metrics)}
    return Message(RecordDict(content), reply_to=message)


def fail(message, context):
    raise ValueError(f"no data on node {context.node_id}")


def fail_without_text(message, context):
    raise Unprintable


def fail_with_odd_text(message, context):
    raise Verbose


def answer_oddly(message, context):
    return Message(Error(ErrorCode.UNKNOWN, ValueError("odd")), reply_to=message)


def interrupt(message, context):
    raise KeyboardInterrupt


def leave(message, context):
    sys.exit("enough")


def end_process(message, context):
    os._exit(3)


def be_killed(message, context):
    os.kill(os.getpid(), signal.SIGKILL)


def be_killed_as_parent(message, context):
    if os.fork() == 0:
        threading.Event().wait()
    be_killed(message, context)


def hang(message, context):
    threading.Event().wait()


def hang_later(message, context):
    """Answer at the first call, in whatever process, and hang from then on."""
    if not is_first_call(message):
        hang(message, context)
    return Message(RecordDict(), reply_to=message)


def spoil_or_die_later(message, context):
    """The first of them answers NaN; the others answer at the first call and die at the second."""
    if context.node_id == message.content["config"]["nodes"][0]:
        return answer_nan(message, context)
    if not is_first_call(message):
        be_killed(message, context)
    return learn(message, context)


def is_first_call(message):
    """Whether no process was given this message before; the second one forgets it."""
    seen = Path(tempfile.gettempdir(), f"umbel-test-{message.metadata.message_id}")
    try:
        seen.touch(exist_ok=False)
    except FileExistsError:
        seen.unlink()
        return False
    return True


def close_stdout(message, context):
    sys.stdout.close()
    return learn(message, context)


def hang_with_a_child(message, context):
    subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    threading.Event().wait()


def answer_nothing(message, context):
    return None


def answer_nan(message, context):
    values = {key: np.full_like(view, np.nan) for key, view in _views(message).items()}
    return reply(message, context, values)


def answer_other_keys(message, context):
    content = {
        "arrays": ArrayRecord({f"of-node-{context.node_id}": np.ones(3, np.float32)}),
        "metrics": MetricRecord({"num-examples": 1}),
    }
    return Message(RecordDict(content), reply_to=message)


def spoil_state(message, context):
    context.state = {"state": 1}
    return reply(message, context, _views(message))


def keep_views(message, context):
    """Keep what every message carried, and fail when any of it has changed."""
    for view, copy in kept:
        if not np.array_equal(view, copy):
            raise AssertionError("a view kept from an earlier round has changed")
    view = _views(message)["w"]
    kept.append((view, view.copy()))
    return learn(message, context)


def write_in_place(message, context):
    _views(message)["w"][:] = 0
    return learn(message, context)


def write_copies(message, context):
    """Change all that can be changed, of a message that others get as well."""
    for array in message.content["arrays"].to_numpy_ndarrays(keep_input=False):
        array[:] = 7
    message.content["config"]["do"] = "nothing"
    message.content["arrays"] = ArrayRecord()
    return reply(message, context, {"w": np.ones(50, np.float32), "b": np.ones((2, 3))})


def speak(message, context):
    print(f"node {context.node_id} speaks")
    return learn(message, context)


BEHAVIOURS = {f.__name__: f for f in list(globals().values()) if callable(f) and f is not app}


@app.query()
def echo(message, context):
    """Send back what came, and what the node is."""
    record = ConfigRecord({"node": context.node_id, "nodes": context.node_config["num-partitions"]})
    return Message(RecordDict({**message.content, "who": record}), reply_to=message)


@app.query("count")
def count(message, context):
    """Number the messages that this node has had."""
    seen = context.state.setdefault("seen", ConfigRecord({"order": []}))
    seen["order"] = [*seen["order"], message.content["config"]["i"]]
    return Message(RecordDict({"seen": seen}), reply_to=message)


@app.query("large")
def large(message, context):
    values = np.full(20_000, context.node_id, np.float64)
    return Message(RecordDict({"arrays": ArrayRecord([values])}), reply_to=message)


@app.query("surroundings")
def surroundings(message, context):
    """Tell what the worker sees."""
    import torch
    from threadpoolctl import threadpool_info

    blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    record = ConfigRecord(
        {
            "cuda": os.environ.get("CUDA_VISIBLE_DEVICES", "(unset)"),
            "blas": blas,
            "torch": torch.get_num_threads(),
            "pid": os.getpid(),
        }
    )
    return Message(RecordDict({"surroundings": record}), reply_to=message)


def _views(message):
    return message.content["arrays"].views()
