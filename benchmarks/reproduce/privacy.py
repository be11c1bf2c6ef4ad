"""Accuracy against ε: FedAvg with central differential privacy on Fashion-MNIST.

    python benchmarks/reproduce/privacy.py --plot accuracy-epsilon.png

2,000 clients hold five images each, and each takes part in a round with probability 0.1, drawn by
itself. For every ε the noise is calibrated to the rounds; the unit of privacy is a client with all
of its images. `--quick` takes seconds: fewer clients, rounds and values of ε.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import task
from rich import box
from rich.console import Console
from rich.table import Table

from umbel import (
    ArrayRecord,
    ClientApp,
    Message,
    MetricRecord,
    RecordDict,
    ServerApp,
    run_simulation,
)
from umbel.partition import iid
from umbel.privacy import Poisson, calibrate
from umbel.serverapp import PoissonSampler
from umbel.strategies import FedAvg, with_central_dp

IMAGES, RATE, CLIP, EPOCHS, LEARNING_RATE = 5, 0.1, 0.5, 5, 0.1
DELTA = 1e-4
EPSILONS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
LAST = 5

client, server = ClientApp(), ServerApp()


@client.train()
def train(message, context):
    x, y = task.data("train")
    mine = iid(context.run_config["clients"] * IMAGES, context.run_config["clients"], seed=1)
    rows = mine[context.node_config["partition-id"]]
    model = {key: view.copy() for key, view in message.content["arrays"].views().items()}
    task.sgd(model, x[rows], y[rows], EPOCHS, LEARNING_RATE)
    content = RecordDict({"arrays": ArrayRecord(model)})
    content["metrics"] = MetricRecord({"num-examples": len(rows)})
    return Message(content, reply_to=message)


@server.main()
def main(grid, context):
    config = context.run_config
    strategy = FedAvg(fraction_evaluate=0.0, train_sampler=PoissonSampler(RATE))
    if config["noise"]:
        strategy = with_central_dp(
            strategy,
            noise_multiplier=config["noise"],
            clipping=CLIP,
            cohort=round(RATE * config["clients"]),
            delta=DELTA,
        )
    curve = []

    def evaluate(server_round, arrays):
        curve.append(task.accuracy(arrays.views(), *task.data("test")))

    model = task.initial_arrays(config["seed"])
    result = strategy.start(grid, model, num_rounds=config["rounds"], evaluate_fn=evaluate)
    return curve, result


def run(epsilon, clients, rounds, seed):
    """Return the accuracy over the last rounds, the noise, and the statement of the run."""
    noise = 0.0
    if math.isfinite(epsilon):
        noise = calibrate(rounds, Poisson(RATE), epsilon=epsilon, delta=DELTA).noise_multiplier
    config = {"clients": clients, "rounds": rounds, "noise": noise, "seed": seed}
    curve, result = run_simulation(server, client, clients, run_config=config, seed=seed)
    return float(np.mean(curve[-LAST:])), noise, result.privacy


def plot(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    private = [row for row in rows if math.isfinite(row["epsilon"])]
    axes.semilogx([r["epsilon"] for r in private], [r["accuracy"] for r in private], "o-", base=2)
    bare = next((row["accuracy"] for row in rows if not math.isfinite(row["epsilon"])), None)
    if bare is not None:
        axes.axhline(bare, linestyle="--", color="grey")
        axes.annotate("without noise and clipping", (private[0]["epsilon"], bare), va="bottom")
    axes.set(xlabel="ε for each client", ylabel="accuracy", title=f"FedAvg, {task.data_name()}")
    axes.xaxis.set_major_formatter("{x:g}")
    figure.savefig(path, dpi=150)


def main_privacy():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few clients, rounds and epsilons")
    parser.add_argument("--plot", type=Path, help="where the picture goes")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    clients, rounds, epsilons = (
        (200, 10, (8.0, math.inf)) if options.quick else (2_000, 60, EPSILONS)
    )
    rows = []
    table = Table("ε", "noise multiplier", "accuracy", box=box.SIMPLE)
    statement = None
    for epsilon in epsilons:
        accuracy, noise, said = run(epsilon, clients, rounds, seed=1)
        statement = said or statement
        rows.append({"epsilon": epsilon, "noise": noise, "accuracy": accuracy})
        table.add_row(f"{epsilon:g}", f"{noise:.3f}", f"{accuracy:.3f}")
    console = Console()
    table.title = f"{clients} clients, rate {RATE}, {rounds} rounds, {task.data_name()}"
    console.print(table)
    console.print(str(statement), markup=False)
    if options.plot:
        plot(rows, options.plot)
    if options.json:
        options.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main_privacy()
