"""What the server does: average, and count what the clients' training costs each image."""

from umbel.records import ArrayRecord, MetricRecord
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg, with_example_dp

from . import data, model

app = ServerApp()


@app.main()
def main(grid, context):
    config = context.run_config
    _, test = data.split()

    def evaluate(server_round, arrays):
        """Test the global model on images that no client has."""
        return MetricRecord(model.evaluate(model.with_arrays(arrays), *test))

    strategy = with_example_dp(
        FedAvg(fraction_evaluate=0.0),
        noise_multiplier=config["noise-multiplier"],
        sampling_rate=config["sampling-rate"],
        steps=config["local-steps"],
        max_norm=config["max-norm"],
        delta=config["delta"],
        epsilon_budget=config["epsilon-budget"],
    )
    return strategy.start(
        grid,
        initial_arrays=ArrayRecord(model.network().state_dict()),
        num_rounds=config["num-rounds"],
        evaluate_fn=evaluate,
    )
