"""What a hospital answers when the server asks."""

from umbel.clientapp import ClientApp
from umbel.records import Message, MetricRecord, RecordDict

from . import data, model

app = ClientApp()


@app.train()
def train(message, context):
    config, patients = context.run_config, data.of_client(context)
    before = model.from_arrays(message.content["arrays"])
    rate = config["learning-rate"]
    if config["strategy"] == "bagging":  # the trees of all hospitals are added up
        rate /= context.node_config["num-partitions"]
    after = model.boost(before, patients, config["trees-per-round"], rate)
    metrics = model.evaluate(after, patients) | {"num-examples": patients.num_row()}
    if config["strategy"] == "bagging" and before is not None:
        after = after[before.num_boosted_rounds() :]  # the new trees alone
    content = RecordDict({"arrays": model.to_arrays(after), "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    patients = data.of_client(context)
    booster = model.from_arrays(message.content["arrays"])
    metrics = model.evaluate(booster, patients) | {"num-examples": patients.num_row()}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
