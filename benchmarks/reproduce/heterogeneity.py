"""Accuracy by round of several strategies on clients with unlike mixes of classes.

    python benchmarks/reproduce/heterogeneity.py

Fashion-MNIST where Debian's package `dataset-fashion-mnist` has put it, else scikit-learn's digits;
a network of one hidden layer, in NumPy. Another strategy is one more row of `STRATEGIES`.
"""

import argparse
import functools
import gzip
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from umbel import ArrayRecord, ClientApp, Message, MetricRecord, RecordDict, ServerApp
from umbel.base import Seeds
from umbel.partition import dirichlet
from umbel.serverapp import Strategy
from umbel.simulation import run_simulation
from umbel.strategies import FedAdam, FedAvg, FedAvgM

CLIENTS, HIDDEN, BATCH, EPOCHS, LEARNING_RATE = 20, 64, 32, 1, 0.05
ALPHAS = (0.1, 0.5)
# Half of the clients take part in a round; the server evaluates the model.
COHORT = {"fraction_train": 0.5, "fraction_evaluate": 0.0}
STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "FedAvg": lambda: FedAvg(**COHORT),
    "FedAvgM": lambda: FedAvgM(server_momentum=0.7, **COHORT),
    "FedAdam": lambda: FedAdam(eta=0.01, **COHORT),
}
FASHION = Path("/usr/share/datasets/fashion-mnist")

client = ClientApp()
server = ServerApp()


@functools.cache
def data(train: bool):
    """Return images in [0, 1], a row each, and labels."""
    if not FASHION.is_dir():
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        part = np.arange(len(labels)) % 5 != 0
        part = part if train else ~part
        return (images[part] / 16).astype(np.float32), labels[part]
    name = "train" if train else "t10k"
    with gzip.open(FASHION / f"{name}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    with gzip.open(FASHION / f"{name}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(len(labels), -1)
    keep = slice(20_000 if train else 5_000)  # minutes on two cores
    return (images[keep] / np.float32(255)), labels[keep]


@functools.cache
def partitions(alpha: float):
    return dirichlet(data(train=True)[1], CLIENTS, alpha, min_partition_size=BATCH)


def initial_arrays() -> ArrayRecord:
    rng = Seeds(7).child("model").numpy()
    sizes = (data(train=True)[0].shape[1], HIDDEN, 10)
    model = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
        model[f"w{layer}"] = rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out)).astype(np.float32)
        model[f"b{layer}"] = np.zeros(n_out, np.float32)
    return ArrayRecord(model)


def forward(model, x):
    hidden = np.maximum(x @ model["w1"] + model["b1"], 0)
    return hidden, hidden @ model["w2"] + model["b2"]


def step(model, x, y):
    """Take one step of SGD on the cross entropy, in place; return the loss."""
    hidden, scores = forward(model, x)
    scores -= scores.max(axis=1, keepdims=True)
    p = np.exp(scores)
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(p[rows, y] + 1e-12).mean()
    p[rows, y] -= 1
    p /= len(y)
    back = (p @ model["w2"].T) * (hidden > 0)
    for key, gradient in (
        ("w2", hidden.T @ p),
        ("b2", p.sum(axis=0)),
        ("w1", x.T @ back),
        ("b1", back.sum(axis=0)),
    ):
        model[key] -= LEARNING_RATE * gradient
    return float(loss)


@client.train()
def train(message, context):
    images, labels = data(train=True)
    mine = partitions(context.run_config["alpha"])[context.node_config["partition-id"]]
    model = {key: array.numpy() for key, array in message.content["arrays"].items()}
    losses = []
    for _ in range(EPOCHS):
        order = np.random.permutation(mine)  # the simulation has seeded it for this client
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            losses.append(step(model, images[batch], labels[batch]))
    metrics = MetricRecord({"num-examples": len(mine), "loss": float(np.mean(losses))})
    return Message(RecordDict({"arrays": ArrayRecord(model), "metrics": metrics}), reply_to=message)


def evaluate(server_round, arrays):
    images, labels = data(train=False)
    right = forward(arrays.views(), images)[1].argmax(axis=1) == labels
    return MetricRecord({"accuracy": float(right.mean())})


@server.main()
def main(grid, context):
    strategy = STRATEGIES[context.run_config["strategy"]]()
    rounds = context.run_config["rounds"]
    return strategy.start(grid, initial_arrays(), num_rounds=rounds, evaluate_fn=evaluate)


def accuracies(strategy: str, alpha: float, rounds: int, seed: int) -> list[float]:
    """Return the accuracy on the test set, before the first round and after each."""
    config = {"strategy": strategy, "alpha": alpha, "rounds": rounds}
    # By name, so that a worker loads data once for all its clients.
    here = Path(__file__)
    result = run_simulation(
        server, f"{here.stem}:client", CLIENTS, seed=seed, run_config=config, app_dir=here.parent
    )
    return [metrics["accuracy"] for metrics in result.evaluate_metrics_serverapp.values()]


def run(rounds: int, seed: int) -> None:
    name = "Fashion-MNIST" if FASHION.is_dir() else "digits"
    shown = sorted({*np.linspace(0, rounds, 7).round().astype(int).tolist()})
    print(f"Test accuracy in % by round: {name}, {CLIENTS} clients, seed {seed}\n")
    print("| alpha | strategy | " + " | ".join(map(str, shown)) + " |")
    print("|" + "---|" * (2 + len(shown)))
    for alpha in ALPHAS:
        for strategy in STRATEGIES:
            found = accuracies(strategy, alpha, rounds, seed)
            cells = " | ".join(f"{100 * found[number]:.1f}" for number in shown)
            print(f"| {alpha} | {strategy} | {cells} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    run(options.rounds, options.seed)
