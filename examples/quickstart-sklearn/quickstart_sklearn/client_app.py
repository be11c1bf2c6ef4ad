"""What a hospital answers when the server asks."""

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict

from . import data, model

app = ClientApp()


@app.query()
def moments(message, context):
    """Tell how many patients there are, and the sums and sums of squares of each measurement."""
    inputs, _ = data.of_client(context)
    sums = {
        "count": np.array(float(len(inputs))),
        "sum": inputs.sum(axis=0),
        "square-sum": (inputs**2).sum(axis=0),
    }
    return Message(RecordDict({"moments": ArrayRecord(sums)}), reply_to=message)


@app.train()
def train(message, context):
    inputs, diagnoses = standardized(message, context)
    config = context.run_config
    arrays = model.train(
        message.content["arrays"].to_numpy_ndarrays(),
        inputs,
        diagnoses,
        config["learning-rate"],
        config["local-epochs"],
    )
    metrics = model.evaluate(arrays, inputs, diagnoses) | {"num-examples": len(diagnoses)}
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    inputs, diagnoses = standardized(message, context)
    arrays = message.content["arrays"].to_numpy_ndarrays()
    metrics = model.evaluate(arrays, inputs, diagnoses) | {"num-examples": len(diagnoses)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def standardized(message, context):
    """Return the hospital's data on the scale that the server worked out for all."""
    inputs, diagnoses = data.of_client(context)
    config = message.content["config"]
    return (inputs - config["mean"]) / config["std"], diagnoses
