import random
from collections.abc import Iterable
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result

from digits_custom.task import new_model

app = ServerApp()


class FallingRate(FedAvg):
    """Halves the learning rate in each round and keeps half of the old model."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.before = arrays.to_numpy_ndarrays()
        config["lr"] = 1.0 / 2 ** (server_round - 1)
        log(INFO, "round %s: lr %s", server_round, config["lr"])
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is None:
            return arrays, metrics
        after = zip(self.before, arrays.to_numpy_ndarrays(), strict=True)
        return ArrayRecord([0.5 * old + 0.5 * new for old, new in after]), metrics


@app.main()
def main(grid: Grid, context: Context) -> None:
    random.seed(1)
    strategy = FallingRate(fraction_train=0.5, min_train_nodes=2, min_available_nodes=4)
    rounds = context.run_config.get("num-server-rounds", 3)
    result: Result = strategy.start(grid, ArrayRecord(new_model()), num_rounds=rounds)
    last = result.evaluate_metrics_clientapp[rounds]
    print("accuracy", round(last["eval_acc"], 3))
