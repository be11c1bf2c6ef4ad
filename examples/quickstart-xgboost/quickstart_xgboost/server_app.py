"""What the server does: gather trees, and test them on patients of no hospital."""

import numpy as np

from umbel.records import ArrayRecord, MetricRecord
from umbel.serverapp import ServerApp
from umbel.strategies import FedXgbBagging, FedXgbCyclic

from . import data, model

app = ServerApp()
STRATEGIES = {"bagging": FedXgbBagging, "cyclic": FedXgbCyclic}


@app.main()
def main(grid, context):
    def evaluate(server_round, arrays):
        booster = model.from_arrays(arrays)
        return booster and MetricRecord(model.evaluate(booster, data.of_server()))

    strategy = STRATEGIES[context.run_config["strategy"]]()
    return strategy.start(
        grid,
        initial_arrays=ArrayRecord([np.zeros(0, np.uint8)]),  # no tree yet
        num_rounds=context.run_config["num-rounds"],
        evaluate_fn=evaluate,
    )
