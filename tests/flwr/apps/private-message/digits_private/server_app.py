from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import (
    Grid,
    NeighboringRelation,
    PrivacyConfig,
    RdpAccountant,
    SamplingMethod,
    ServerApp,
)
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
)

from digits_private.task import load_data, new_model, test

app = ServerApp()


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    loss, accuracy = test(arrays.to_numpy_ndarrays(), *load_data(4, 4))
    return MetricRecord({"loss": loss, "accuracy": accuracy})


@app.main()
def main(grid: Grid, context: Context) -> None:
    adaptive = DifferentialPrivacyClientSideAdaptiveClipping(
        FedAvg(fraction_evaluate=0.5),
        noise_multiplier=0.01,
        num_sampled_clients=4,
        initial_clipping_norm=5.0,
    )
    first = adaptive.start(grid=grid, initial_arrays=ArrayRecord(new_model()), num_rounds=2)
    assert set(first.train_metrics_clientapp[2]) == {"train_loss"}
    assert 4.0 < adaptive.clipping_norm < 6.0

    accountant = RdpAccountant(
        PrivacyConfig(
            target_delta=1e-5,
            population_size=4,
            neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
            sampling_method=SamplingMethod.NO_AMPLIFICATION,
        )
    )
    strategy = DifferentialPrivacyServerSideFixedClipping(
        FedAvg(fraction_evaluate=0.0),
        noise_multiplier=0.01,
        clipping_norm=5.0,
        num_sampled_clients=4,
        accountant=accountant,
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=first.arrays,
        num_rounds=context.run_config.get("num-server-rounds", 3),
        train_config=ConfigRecord({"clipping_norm": 5.0}),
        evaluate_fn=global_evaluate,
    )
    assert strategy.privacy_spent().num_releases == accountant.num_releases
    rounds = result.evaluate_metrics_serverapp
    print("accuracy", round(rounds[max(rounds)]["accuracy"], 3))
