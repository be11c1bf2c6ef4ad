from flwr.common import (
    Context,
    FitIns,
    FitRes,
    GetPropertiesIns,
    Metrics,
    Parameters,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg

from digits_old.task import load_data, test


def mean_accuracy(metrics: list[tuple[int, Metrics]]) -> Metrics:
    total = sum(count for count, _ in metrics)
    return {"accuracy": sum(count * float(m["accuracy"]) for count, m in metrics) / total}


class ScaledFedAvg(FedAvg):
    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        self.old = parameters_to_ndarrays(parameters)
        chosen = []
        for client, ins in super().configure_fit(server_round, parameters, client_manager):
            known = client.get_properties(GetPropertiesIns({}), timeout=30, group_id=server_round)
            lr = 0.5 if known.properties["partition"] % 2 == 0 else 0.4
            chosen.append((client, FitIns(ins.parameters, {**ins.config, "lr": lr})))
        return chosen

    def aggregate_fit(self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures):
        assert {type(answer) for _, answer in results} == {FitRes}
        parameters, metrics = super().aggregate_fit(server_round, results, failures)
        if parameters is not None:
            new = parameters_to_ndarrays(parameters)
            step = [o + 0.9 * (n - o) for o, n in zip(self.old, new, strict=True)]
            parameters = ndarrays_to_parameters(step)
        return parameters, metrics


def evaluate(server_round, parameters, config):
    loss, accuracy = test(parameters, *load_data(4, 4))
    if server_round:
        print("accuracy", round(accuracy, 3))
    return loss, {"accuracy": accuracy}


def server_fn(context: Context) -> ServerAppComponents:
    strategy = ScaledFedAvg(
        fraction_fit=0.75,
        on_fit_config_fn=lambda server_round: {"round": server_round},
        evaluate_metrics_aggregation_fn=mean_accuracy,
        evaluate_fn=evaluate,
    )
    rounds = int(context.run_config.get("num-server-rounds", 3))
    return ServerAppComponents(config=ServerConfig(num_rounds=rounds), strategy=strategy)


app = ServerApp(server_fn=server_fn)
