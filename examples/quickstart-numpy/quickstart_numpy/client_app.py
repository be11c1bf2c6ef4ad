"""What a client does with the model that the server sends."""

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict

from . import data, model

app = ClientApp()


@app.train()
def train(message, context):
    train_data, _ = data.of_client(context)
    config = context.run_config
    arrays = message.content["arrays"].to_numpy_ndarrays()
    model.train(
        arrays, train_data, config["learning-rate"], config["local-epochs"], config["batch-size"]
    )
    metrics = model.evaluate(arrays, train_data) | {"num-examples": len(train_data[0])}
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    _, validation = data.of_client(context)
    arrays = message.content["arrays"].to_numpy_ndarrays()
    metrics = model.evaluate(arrays, validation) | {"num-examples": len(validation[0])}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
