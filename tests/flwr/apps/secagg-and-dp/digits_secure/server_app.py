from flwr.common import Context, Metrics, ndarrays_to_parameters
from flwr.server import Grid, LegacyContext, ServerApp, ServerConfig
from flwr.server.strategy import DifferentialPrivacyClientSideFixedClipping, FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

from digits_secure.task import load_data, new_model, test

app = ServerApp()


def weighted_average(metrics: list[tuple[int, Metrics]]) -> Metrics:
    total = sum(count for count, _ in metrics)
    return {"train_loss": sum(count * m["train_loss"] for count, m in metrics) / total}


def evaluate(server_round, parameters, config):
    loss, accuracy = test(parameters, *load_data(4, 4))
    if server_round:
        print("accuracy", round(accuracy, 3))
    return loss, {"accuracy": accuracy}


@app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_fit_clients=4,
        fit_metrics_aggregation_fn=weighted_average,
        initial_parameters=ndarrays_to_parameters(new_model()),
        evaluate_fn=evaluate,
    )
    strategy = DifferentialPrivacyClientSideFixedClipping(
        strategy, noise_multiplier=0.01, clipping_norm=5, num_sampled_clients=4
    )
    rounds = context.run_config.get("num-server-rounds", 3)
    legacy = LegacyContext(
        context=context, config=ServerConfig(num_rounds=rounds), strategy=strategy
    )
    fit_workflow = SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2, max_weight=1000)
    workflow = DefaultWorkflow(fit_workflow=fit_workflow)
    workflow(grid, legacy)
    assert len(legacy.history.losses_centralized) == rounds + 1
