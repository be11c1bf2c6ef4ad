"""What the server does: average what the clients learned, and test the result."""

from umbel.records import ArrayRecord, MetricRecord
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

from . import task

app = ServerApp()


def evaluate(server_round, arrays):
    """Test the global model on images that no client has."""
    _, images, _, labels = task.load_data()
    parameters = arrays.to_numpy_ndarrays()
    loss, accuracy = task.evaluate(parameters, images, labels)
    return MetricRecord({"loss": loss, "accuracy": accuracy})


@app.main()
def main(grid, context):
    return FedAvg().start(
        grid,
        initial_arrays=ArrayRecord(task.new_model()),
        num_rounds=context.run_config["num-rounds"],
        evaluate_fn=evaluate,
    )
