"""What the server does: average what the clients learned, and test the result."""

from umbel.records import ArrayRecord, MetricRecord
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

from . import data, model

app = ServerApp()


def evaluate(server_round, arrays):
    """Test the global model on images that no client has."""
    _, test = data.split()
    return MetricRecord(model.evaluate(arrays.to_numpy_ndarrays(), test))


@app.main()
def main(grid, context):
    config = context.run_config
    return FedAvg().start(
        grid,
        initial_arrays=ArrayRecord(model.initial(config["hidden-units"])),
        num_rounds=config["num-rounds"],
        evaluate_fn=evaluate,
    )
