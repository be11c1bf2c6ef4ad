"""What the server does: find a common scale, average what the hospitals learned, test it."""

import numpy as np

from umbel.records import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

from . import data, model

app = ServerApp()


def common_scale(grid):
    """Ask all hospitals for their sums; return the mean and deviation of each measurement."""
    questions = [Message(RecordDict(), node, MessageType.QUERY) for node in grid.get_node_ids()]
    answers = [reply.content["moments"] for reply in grid.send_and_receive(questions)]
    count, total, squares = (
        sum(answer[name].numpy() for answer in answers) for name in ("count", "sum", "square-sum")
    )
    mean = total / count
    return mean, np.sqrt(squares / count - mean**2)


@app.main()
def main(grid, context):
    mean, std = common_scale(grid)
    scale = ConfigRecord({"mean": mean.tolist(), "std": std.tolist()})
    _, measurements, _, diagnoses = data.split()

    def evaluate(server_round, arrays):
        """Test the global model on patients of no hospital."""
        inputs = (measurements - mean) / std
        return MetricRecord(model.evaluate(arrays.to_numpy_ndarrays(), inputs, diagnoses))

    return FedAvg().start(
        grid,
        initial_arrays=ArrayRecord(model.initial()),
        num_rounds=context.run_config["num-rounds"],
        train_config=scale,
        evaluate_config=scale,
        evaluate_fn=evaluate,
    )
