from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from digits_fds.task import load_test_data, new_model, test

app = ServerApp()


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    loss, accuracy = test(arrays.to_numpy_ndarrays(), *load_test_data())
    return MetricRecord({"loss": loss, "accuracy": accuracy})


@app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = FedAvg(fraction_evaluate=0.5)
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(new_model()),
        train_config=ConfigRecord({"lr": 0.5}),
        num_rounds=context.run_config.get("num-server-rounds", 3),
        evaluate_fn=global_evaluate,
    )
    rounds = result.evaluate_metrics_serverapp
    assert len(result.arrays.to_numpy_ndarrays()) == 2
    print("accuracy", round(rounds[max(rounds)]["accuracy"], 3))
