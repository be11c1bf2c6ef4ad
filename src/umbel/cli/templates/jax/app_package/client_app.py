"""What a client does with the model that the server sends."""

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict

from . import task

app = ClientApp()


@app.train()
def train(message, context):
    images, labels = task.my_data(context)
    model = message.content["arrays"].to_pytree(like=task.new_model())
    model = task.train(model, images, labels, context.run_config)
    loss, _ = task.evaluate(model, images, labels)
    metrics = MetricRecord({"loss": loss, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord.from_pytree(model), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    images, labels = task.my_data(context)
    model = message.content["arrays"].to_pytree(like=task.new_model())
    loss, accuracy = task.evaluate(model, images, labels)
    metrics = MetricRecord({"loss": loss, "accuracy": accuracy, "num-examples": len(labels)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
