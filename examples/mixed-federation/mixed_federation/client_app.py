"""What a Python node does; clients/typescript/examples/digits.ts does the same in TypeScript."""

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict

from . import data, model

app = ClientApp()


def received(message):
    """Return the model in a message."""
    return {name: array.numpy() for name, array in message.content["arrays"].items()}


@app.train()
def train(message, context):
    images, labels = data.of_client(context)
    config = context.run_config
    trained = model.train(
        received(message), images, labels, config["learning-rate"], config["local-epochs"]
    )
    metrics = model.evaluate(trained, images, labels) | {"num-examples": len(labels)}
    content = RecordDict({"arrays": ArrayRecord(trained), "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    images, labels = data.of_client(context)
    metrics = model.evaluate(received(message), images, labels) | {"num-examples": len(labels)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
