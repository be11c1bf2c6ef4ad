"""The seven algorithms that `heterogeneity.py` compares, each in the few lines that it takes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import task

from umbel import ArrayRecord, ClientApp, Message, MetricRecord, RecordDict, ServerApp
from umbel.clientapp import (
    DittoTerm,
    FedDynTerm,
    LocalTerm,
    ProximalTerm,
    ScaffoldTerm,
    local_norm,
)
from umbel.partition import dirichlet
from umbel.serverapp import Strategy
from umbel.strategies import FedAdam, FedAvg, FedDyn, FedNova, FedProx, Scaffold

CLIENTS, EPOCHS = 20, 5
UNEQUAL_EPOCHS = (2, 5)
"""From the least to the most, drawn by every client in every round."""


@dataclass(frozen=True)
class Algorithm:
    """How the server learns, what a client adds to its gradients, and what else is tuned.

    `strategy` is called with `fraction_train` and, where `tuned` names one, the parameter that is
    tuned besides the learning rate; `term` with the message, the context and the learning rate.
    """

    strategy: Callable[..., Strategy]
    term: Callable[..., LocalTerm | None] = lambda message, context, rate: None
    tuned: str = ""
    values: tuple[float, ...] = (0.0,)


def ditto_server(lam, **options):
    """The server's part of Ditto is FedAvg; `lam` is the clients'."""
    return FedAvg(**options)


ALGORITHMS = {
    "FedAvg": Algorithm(FedAvg),
    "FedProx": Algorithm(
        FedProx, lambda message, context, rate: ProximalTerm(message), "proximal_mu", (0.01, 0.1)
    ),
    "SCAFFOLD": Algorithm(Scaffold, ScaffoldTerm),
    "FedNova": Algorithm(FedNova),
    "FedDyn": Algorithm(
        FedDyn, lambda message, context, rate: FedDynTerm(message, context), "alpha", (0.01, 0.1)
    ),
    "FedAdam": Algorithm(FedAdam, tuned="eta", values=(0.01, 0.03)),
    "Ditto": Algorithm(ditto_server, tuned="lam", values=(0.1, 1.0)),
}

client, server = ClientApp(), ServerApp()


@functools.cache
def partitions(alpha, seed):
    return dirichlet(task.data("train")[1], CLIENTS, alpha, min_partition_size=10, seed=seed)


def own_images(context):
    """Return the indices of this client's images: to train with, and held out for evaluation."""
    config = context.run_config
    mine = partitions(config["alpha"], config["seed"])[context.node_config["partition-id"]]
    return np.split(mine, [-(-len(mine) * 4 // 5)])


def epochs_of(context):
    if not context.run_config["unequal"]:
        return EPOCHS
    return int(np.random.randint(UNEQUAL_EPOCHS[0], UNEQUAL_EPOCHS[1] + 1))  # seeded, as all is


@client.train()
def train(message, context):
    config = context.run_config
    name, rate = config["algorithm"], config["learning-rate"]
    images, labels = task.data("train")
    x, y = (values[own_images(context)[0]] for values in (images, labels))
    epochs = epochs_of(context)
    term = ALGORITHMS[name].term(message, context, rate)
    model = {key: array.numpy() for key, array in message.content["arrays"].items()}
    steps = task.sgd(model, x, y, epochs, rate, term)
    if name == "Ditto":
        ditto = DittoTerm(message, context, config["tuned"])
        personal = {key: array.numpy() for key, array in ditto.personal.items()}
        task.sgd(personal, x, y, epochs, rate, ditto)
        ditto.keep(personal)
    metrics = MetricRecord({"num-examples": len(y), "local-norm": local_norm(steps)})
    content = RecordDict({"arrays": ArrayRecord(model), "metrics": metrics})
    finish = getattr(term, "finish", None)
    return Message(finish(content) if finish else content, reply_to=message)


@client.evaluate()
def evaluate(message, context):
    images, labels = task.data("train")
    held_out = own_images(context)[1]
    # The personal model of Ditto; where there is none, the global one that came.
    model = DittoTerm(message, context, lam=0.0).personal.views()
    right = task.accuracy(model, images[held_out], labels[held_out])
    metrics = MetricRecord({"num-examples": len(held_out), "accuracy": right})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@server.main()
def main(grid, context):
    config = context.run_config
    algorithm = ALGORITHMS[config["algorithm"]]
    options = {algorithm.tuned: config["tuned"]} if algorithm.tuned else {}
    strategy = algorithm.strategy(fraction_train=config["fraction"], **options)
    x, y = task.data(config["judged-on"])

    def judged(server_round, arrays):
        return MetricRecord({"accuracy": task.accuracy(arrays.views(), x, y)})

    arrays = task.initial_arrays(config["seed"])
    return strategy.start(grid, arrays, num_rounds=config["rounds"], evaluate_fn=judged)
