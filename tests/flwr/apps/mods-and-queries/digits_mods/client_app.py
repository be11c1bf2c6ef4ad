import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import arrays_size_mod, message_size_mod

from digits_mods.task import load_data


def count_calls(msg: Message, context: Context, call_next) -> Message:
    calls = context.state.metric_records.get("calls", MetricRecord({"count": 0}))
    calls["count"] += 1
    context.state["calls"] = calls
    reply = call_next(msg, context)
    reply.content["calls"] = MetricRecord({"count": calls["count"]})
    return reply


app = ClientApp(mods=[count_calls, message_size_mod])


@app.query()
def histogram(msg: Message, context: Context):
    node = context.node_config
    _, labels = load_data(node["partition-id"], node["num-partitions"])
    counts = np.bincount(labels, minlength=10).tolist()
    return Message(RecordDict({"labels": MetricRecord({"counts": counts})}), reply_to=msg)


@app.query("pixels", mods=[arrays_size_mod])
def brightness(msg: Message, context: Context):
    node = context.node_config
    images, _ = load_data(node["partition-id"], node["num-partitions"])
    if msg.content["config"]["digits"] == 0:
        raise ValueError("nothing to round to")
    value = round(float(images.mean()), msg.content["config"]["digits"])
    content = RecordDict({"config": ConfigRecord({"brightness": value})})
    return Message(content, reply_to=msg)
