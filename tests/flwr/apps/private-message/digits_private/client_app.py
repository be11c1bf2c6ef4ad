from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import adaptiveclipping_mod

from digits_private.task import load_data, test, train

app = ClientApp()


def my_data(context: Context):
    return load_data(context.node_config["partition-id"], context.node_config["num-partitions"])


@app.train(mods=[adaptiveclipping_mod])
def fit(msg: Message, context: Context):
    images, labels = my_data(context)
    model = train(msg.content["arrays"].to_numpy_ndarrays(), images, labels, 0.5)
    loss, _ = test(model, images, labels)
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(model), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    images, labels = my_data(context)
    loss, accuracy = test(msg.content["arrays"].to_numpy_ndarrays(), images, labels)
    metrics = {"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(labels)}
    return Message(content=RecordDict({"metrics": MetricRecord(metrics)}), reply_to=msg)
