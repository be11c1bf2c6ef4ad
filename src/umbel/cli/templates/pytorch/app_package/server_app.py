"""What the server does: average what the clients learned, and test the result."""

from umbel.records import ArrayRecord, MetricRecord
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

from . import task

app = ServerApp()


def evaluate(server_round, arrays):
    """Test the global model on images that no client has."""
    _, images, _, labels = task.load_data()
    model = task.new_model()
    model.load_state_dict(arrays.to_torch_state_dict())
    loss, accuracy = task.evaluate(model, images, labels)
    return MetricRecord({"loss": loss, "accuracy": accuracy})


@app.main()
def main(grid, context):
    return FedAvg().start(
        grid,
        initial_arrays=ArrayRecord(task.new_model().state_dict()),
        num_rounds=context.run_config["num-rounds"],
        evaluate_fn=evaluate,
    )
