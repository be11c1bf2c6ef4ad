"""What the server does: average what some of the clients learned, and test the result."""

from umbel.records import ArrayRecord, MetricRecord
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

from . import data, model

app = ServerApp()


@app.main()
def main(grid, context):
    config = context.run_config
    _, test = data.split(config["data-dir"])
    images, labels = data.tensors(*test)

    def evaluate(server_round, arrays):
        """Test the global model on images that no client has."""
        return MetricRecord(model.evaluate(model.with_arrays(arrays), images, labels))

    # The clients only train: the server's test says more than their own few images would.
    strategy = FedAvg(fraction_train=config["fraction-train"], fraction_evaluate=0.0)
    return strategy.start(
        grid,
        initial_arrays=ArrayRecord(model.network().state_dict()),
        num_rounds=config["num-rounds"],
        evaluate_fn=evaluate,
    )
