"""What a client does with the model that the server sends."""

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict

from . import task

app = ClientApp()


def model_in(message):
    """Return the network that the server sent."""
    model = task.new_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return model


@app.train()
def train(message, context):
    images, labels = task.my_data(context)
    model = model_in(message)
    task.train(model, images, labels, context.run_config)
    loss, _ = task.evaluate(model, images, labels)
    metrics = MetricRecord({"loss": loss, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    images, labels = task.my_data(context)
    loss, accuracy = task.evaluate(model_in(message), images, labels)
    metrics = MetricRecord({"loss": loss, "accuracy": accuracy, "num-examples": len(labels)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
