from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict

app = ClientApp()


@app.train()
def train(message, context):
    arrays = {name: array.numpy() + 1 for name, array in message.content["arrays"].items()}
    content = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)


@app.query("fail")
def fail(message, context):
    raise ValueError("the data is empty")
