"""What a client does: train by DP-SGD, and tell nothing else of its images."""

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict

from . import data, model

app = ClientApp()


@app.train()
def train(message, context):
    images, labels = data.of_client(context)
    net = model.with_arrays(message.content["arrays"])
    rate = context.run_config["learning-rate"]
    model.train_privately(net, images, labels, rate, message.content["dp"])
    content = RecordDict({"arrays": ArrayRecord(net.state_dict())})
    content["metrics"] = MetricRecord({"num-examples": len(labels)})
    return Message(content, reply_to=message)
