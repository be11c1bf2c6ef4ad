"""What a client does with the model that the server sends."""

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict

from . import data, model

app = ClientApp()


@app.train()
def train(message, context):
    images, labels = data.of_client(context)
    net = model.with_arrays(message.content["arrays"])
    loss = model.train(net, images, labels, context.run_config)
    metrics = MetricRecord({"loss": loss, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)
