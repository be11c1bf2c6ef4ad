"""Final accuracy of nine defences under five attacks by 10, 20 and 30 % of the clients.

    python benchmarks/reproduce/attacks.py

Fashion-MNIST among 20 clients of about one size, all of whom take part in every round: once shared
out at random, once by a Dirichlet distribution. A defence is told how many attackers there are.
`--quick` takes seconds: one split, one share of attackers, four defences, fewer rounds.
"""

import argparse
import functools
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import task
from poisoning import ATTACKS, as_trained, poisoned
from rich import box
from rich.console import Console
from rich.table import Table

from umbel import (
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Message,
    MetricRecord,
    RecordDict,
    ServerApp,
    run_simulation,
)
from umbel.base import Seeds
from umbel.partition import dirichlet, iid
from umbel.strategies import (
    Bulyan,
    CenteredClipping,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    GeometricMedian,
    Krum,
    MultiKrum,
    NormBounding,
)

CLIENTS, EPOCHS, LEARNING_RATE, ROUNDS, LAST = 20, 2, 0.2, 15, 3
SHARES = (0.1, 0.2, 0.3)
SPLITS = {"IID": 0.0, "Dirichlet 0.5": 0.5}
RADIUS = 1.0
"""Of clipping: about the length of an honest update."""

DEFENCES = {
    "FedAvg": lambda f: (FedAvg, {}),
    "FedMedian": lambda f: (FedMedian, {}),
    "FedTrimmedAvg": lambda f: (FedTrimmedAvg, {"beta": f / CLIENTS}),
    "Krum": lambda f: (Krum, {"num_malicious_nodes": f}),
    "MultiKrum": lambda f: (
        MultiKrum,
        {"num_malicious_nodes": f, "num_nodes_to_select": CLIENTS - f},
    ),
    "Bulyan": lambda f: (Bulyan, {"num_malicious_nodes": f}),
    "GeometricMedian": lambda f: (GeometricMedian, {}),
    "CenteredClipping": lambda f: (CenteredClipping, {"tau": RADIUS, "iterations": 3}),
    "NormBounding": lambda f: (NormBounding, {"max_norm": RADIUS}),
}
QUICK_DEFENCES = ("FedAvg", "FedMedian", "MultiKrum", "CenteredClipping")

client, server = ClientApp(), ServerApp()
progress = Console(stderr=True)


@functools.cache
def partitions(alpha, seed):
    labels = task.data("train")[1]
    if not alpha:
        return iid(len(labels), CLIENTS, seed=seed)
    return dirichlet(labels, CLIENTS, alpha, self_balancing=True, seed=seed)


def attackers(seed, count):
    """Return the nodes that attack; those of a smaller share attack in a greater one too."""
    order = Seeds(seed).child("attackers").numpy().permutation(CLIENTS)
    return set(order[:count].tolist())


@client.train()
def train(message, context):
    alpha, seed = context.run_config["alpha"], context.run_config["seed"]
    mine = partitions(alpha, seed)[context.node_config["partition-id"]]
    images, labels = (values[mine] for values in task.data("train"))
    if context.node_id in message.content["config"]["flipped"]:
        labels = task.CLASSES - 1 - labels
    model = {key: array.numpy() for key, array in message.content["arrays"].items()}
    with np.errstate(all="ignore"):  # where an attack succeeds, numbers overflow
        task.sgd(model, images, labels, EPOCHS, LEARNING_RATE)
    metrics = MetricRecord({"num-examples": len(mine)})
    return Message(RecordDict({"arrays": ArrayRecord(model), "metrics": metrics}), reply_to=message)


def judged(server_round, arrays):
    with np.errstate(all="ignore"):
        return MetricRecord({"accuracy": task.accuracy(arrays.views(), *task.data("test"))})


def final_accuracy(grid, defence, attack, count, context):
    """Return the accuracy in % at the end; None where the defence needs more clients."""
    if defence == "Bulyan" and 4 * count + 3 > CLIENTS:
        return None
    lying = attackers(context.run_config["seed"], count)
    kind, options = DEFENCES[defence](count)
    forge = ATTACKS[attack].forge if attack else as_trained
    # A round whose replies all overflowed is skipped: the model stays as bad as it is.
    options |= {"fraction_evaluate": 0.0, "on_shortfall": "skip"}
    strategy = poisoned(kind, forge, lying, **options)
    flipped = sorted(lying) if attack and ATTACKS[attack].flips_labels else []
    result = strategy.start(
        grid,
        task.initial_arrays(context.run_config["seed"]),
        num_rounds=context.run_config["rounds"],
        train_config=ConfigRecord({"flipped": flipped}),
        evaluate_fn=judged,
    )
    accuracies = [metrics["accuracy"] for metrics in result.evaluate_metrics_serverapp.values()]
    return 100 * statistics.fmean(accuracies[-LAST:])


@server.main()
def main(grid, context):
    """Return a list of {attack, attackers, defence, accuracy}, first without an attack."""
    config = context.run_config
    defences, shares = config["defences"].split(","), config["shares"].split(",")
    cases = [("", 0)]
    cases += [(attack, round(float(share) * CLIENTS)) for share in shares for attack in ATTACKS]
    found = []
    for attack, count in cases:
        progress.print(f"{attack or 'no attack'}, {count} of {CLIENTS}", style="dim")
        for defence in defences:
            accuracy = final_accuracy(grid, defence, attack, count, context)
            found.append(
                {"attack": attack, "attackers": count, "defence": defence, "accuracy": accuracy}
            )
    return found


def measure(alpha, seed, rounds, defences, shares):
    """Run the grid for one split as one simulation, so that workers load the data once."""
    config = {
        "alpha": alpha,
        "seed": seed,
        "rounds": rounds,
        "defences": ",".join(defences),
        "shares": ",".join(map(str, shares)),
    }
    here = Path(__file__).parent
    return run_simulation(
        server, "attacks:client", CLIENTS, seed=seed, run_config=config, app_dir=here
    )


def table_of(found, defences):
    """Return one split's accuracies; what lost a tenth or more against no attack is red."""
    accuracy = {(one["attack"], one["attackers"], one["defence"]): one["accuracy"] for one in found}
    table = Table(box=box.MARKDOWN)
    table.add_column("attack")
    table.add_column("attackers", justify="right")
    for defence in defences:
        table.add_column(defence, justify="right")
    for attack, count in dict.fromkeys((one["attack"], one["attackers"]) for one in found):
        cells = []
        for defence in defences:
            value, honest = accuracy[attack, count, defence], accuracy["", 0, defence]
            shown = "–" if value is None else f"{value:.1f}"
            lost = value is not None and value < 0.9 * honest
            cells.append(f"[red]{shown}[/red]" if lost else shown)
        table.add_row(attack or "none", f"{count / CLIENTS:.0%}", *cells)
    return table


def run():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one split, 20 %%, eight rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    splits, defences, shares, rounds = SPLITS, tuple(DEFENCES), SHARES, options.rounds
    if options.quick:
        splits, defences, shares, rounds = {"IID": 0.0}, QUICK_DEFENCES, (0.2,), 8
    console = Console(width=None if sys.stdout.isatty() else 180)
    console.print(
        f"{task.data_name()}, {CLIENTS} clients, {rounds} rounds of {EPOCHS} epochs, seed "
        f"{options.seed}: accuracy in % on the test set, mean of the last {LAST} rounds"
    )
    figures = {}
    for split, alpha in splits.items():
        figures[split] = measure(alpha, options.seed, rounds, defences, shares)
        console.print(f"\n{split}", table_of(figures[split], defences))
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    run()
