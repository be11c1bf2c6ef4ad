import sys

import flwr as fl
from flwr.common import Metrics


def weighted_average(metrics: list[tuple[int, Metrics]]) -> Metrics:
    total = sum(count for count, _ in metrics)
    return {"accuracy": sum(count * m["accuracy"] for count, m in metrics) / total}


strategy = fl.server.strategy.FedAvg(evaluate_metrics_aggregation_fn=weighted_average)

history = fl.server.start_server(
    server_address=f"127.0.0.1:{sys.argv[1]}",
    config=fl.server.ServerConfig(num_rounds=3),
    strategy=strategy,
)
print(type(history).__name__, history.losses_distributed, history.metrics_distributed)
