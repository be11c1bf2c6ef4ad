from flwr.client import ClientApp, NumPyClient
from flwr.client.mod import fixedclipping_mod, secaggplus_mod
from flwr.common import Context

from digits_secure.task import load_data, new_model, test, train


class DigitsClient(NumPyClient):
    def __init__(self, partition_id, num_partitions):
        self.images, self.labels = load_data(partition_id, num_partitions)

    def get_parameters(self, config):
        return new_model()

    def fit(self, parameters, config):
        model = train(parameters, self.images, self.labels, 0.5)
        loss, accuracy = test(model, self.images, self.labels)
        return model, len(self.labels), {"train_loss": loss, "train_accuracy": accuracy}

    def evaluate(self, parameters, config):
        loss, accuracy = test(parameters, self.images, self.labels)
        return loss, len(self.labels), {"accuracy": accuracy}


def client_fn(context: Context):
    node = context.node_config
    return DigitsClient(node["partition-id"], node["num-partitions"]).to_client()


app = ClientApp(client_fn=client_fn, mods=[secaggplus_mod, fixedclipping_mod])
