import flwr as fl
from flwr.common import Context, NDArrays, Scalar

from digits_old.task import load_data, new_model, test, train


class DigitsClient(fl.client.NumPyClient):
    def __init__(self, partition_id: int, num_partitions: int) -> None:
        self.partition_id = partition_id
        self.images, self.labels = load_data(partition_id, num_partitions)

    def get_properties(self, config: dict[str, Scalar]) -> dict[str, Scalar]:
        return {"partition": self.partition_id}

    def get_parameters(self, config: dict[str, Scalar]) -> NDArrays:
        return new_model()

    def fit(self, parameters: NDArrays, config: dict[str, Scalar]):
        model = train(parameters, self.images, self.labels, float(config["lr"]))
        return model, len(self.labels), {"partition": self.partition_id}

    def evaluate(self, parameters: NDArrays, config: dict[str, Scalar]):
        loss, accuracy = test(parameters, self.images, self.labels)
        return loss, len(self.labels), {"accuracy": accuracy}


def client_fn(context: Context) -> fl.client.Client:
    node = context.node_config
    return DigitsClient(node["partition-id"], node["num-partitions"]).to_client()


app = fl.client.ClientApp(client_fn=client_fn)
