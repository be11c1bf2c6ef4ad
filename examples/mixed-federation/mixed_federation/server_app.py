"""What the server does: average what the nodes learned, in whatever language, and test it."""

from umbel.records import ArrayRecord, MetricRecord
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

from . import data, model

app = ServerApp()


def evaluate(server_round, arrays):
    """Test the global model on images that no node has."""
    _, (images, labels) = data.split()
    current = {name: array.numpy() for name, array in arrays.items()}
    return MetricRecord(model.evaluate(current, images, labels))


@app.main()
def main(grid, context):
    return FedAvg().start(
        grid,
        initial_arrays=ArrayRecord(model.initial()),
        num_rounds=context.run_config["num-rounds"],
        evaluate_fn=evaluate,
    )
