"""Does the claimed ε hold? Canaries bound it from below, and membership inference is tried.

    python benchmarks/privacy_audit.py

**Canaries.** 1,000 clients each flip a coin; half of them send a long update in a direction of
their own in every round, the others nothing. Whoever sees the final model guesses the coins that it
is surest of. Many right guesses prove that ε is at least so large, with 95 % confidence, however
the noise was made (Steinke et al. 2023, arXiv:2305.08846, theorem 5.2). The bound must stay
below the ε that the run claims, and without noise it must be large, or the audit would be blind.

**Membership inference.** A network trains on few images, with and without noise at the server; the
attacker says "member" where the loss is small (Yeom et al. 2018, arXiv:1709.01604). An area of 0.5
under its curve is guessing.

Ends with status 1 when a lower bound is over the ε claimed.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.special import expit
from scipy.stats import binom

sys.path.insert(0, str(Path(__file__).parent / "reproduce"))

import task

from umbel import (
    ArrayRecord,
    ClientApp,
    Message,
    MetricRecord,
    RecordDict,
    ServerApp,
    run_simulation,
)
from umbel.base import Seeds
from umbel.partition import iid
from umbel.strategies import FedAvg, with_central_dp

CANARIES, ITEMS, ROUNDS, GUESSED, DELTA, CONFIDENCE = 1_000, 20_000, 10, 0.1, 1e-5, 0.95
MEMBERS, CLIENTS, TRAINING_ROUNDS = 300, 30, 60
CLIP = 1.0

client, server = ClientApp(), ServerApp()


def coin(node):
    return bool(Seeds(5).child("coin", node).numpy().integers(2))


def direction(node):
    vector = Seeds(5).child("direction", node).numpy().standard_normal(ITEMS, np.float32)
    return vector / np.linalg.norm(vector)


def reply(message, arrays, examples=1):
    content = RecordDict({"arrays": ArrayRecord(arrays)})
    content["metrics"] = MetricRecord({"num-examples": examples})
    return Message(content, reply_to=message)


@client.train("canary")
def canary(message, context):
    node = context.node_config["partition-id"]
    arrays = message.content["arrays"].views()
    shift = 10 * CLIP * direction(node) if coin(node) else np.float32(0)
    return reply(message, {"w": arrays["w"] + shift})


@client.train()
def train(message, context):
    x, y = member_data()
    mine = iid(len(y), CLIENTS, seed=1)[context.node_config["partition-id"]]
    model = {key: view.copy() for key, view in message.content["arrays"].views().items()}
    task.sgd(model, x[mine], y[mine], epochs=20, learning_rate=0.3)
    return reply(message, model)


class Canaries(FedAvg):
    def configure_train(self, *args):
        for message in super().configure_train(*args):
            message.metadata.message_type = "train.canary"
            yield message


def member_data():
    x, y = task.data("train")
    return x[:MEMBERS], y[:MEMBERS]


def other_data():
    x, y = task.data("train")
    return x[MEMBERS:], y[MEMBERS:]


@server.main()
def main(grid, context):
    config = context.run_config
    audited = config["case"] == "canaries"
    strategy = (Canaries if audited else FedAvg)(fraction_evaluate=0.0)
    if config["noise"] > 0:
        strategy = with_central_dp(
            strategy,
            noise_multiplier=config["noise"],
            clipping=CLIP,
            cohort=len(grid.get_node_ids()),
            delta=DELTA,
        )
    model = task.initial_arrays(1)
    if audited:
        model = ArrayRecord({"w": np.zeros(ITEMS, np.float32)})
    return strategy.start(grid, model, num_rounds=ROUNDS if audited else TRAINING_ROUNDS)


def run(case, noise, nodes):
    config = {"case": case, "noise": float(noise)}
    result = run_simulation(server, client, nodes, run_config=config, seed=3)
    claimed = result.privacy.epsilon if result.privacy is not None else float("inf")
    return result.arrays.views(), claimed


def right_guesses(final):
    """Return how many coins are guessed, and how many of these guesses are right."""
    scores = np.array([float(final["w"] @ direction(node)) for node in range(CANARIES)])
    coins = np.array([coin(node) for node in range(CANARIES)])
    order, side = np.argsort(scores), int(CANARIES * GUESSED / 2)
    return 2 * side, int(coins[order[-side:]].sum() + (~coins[order[:side]]).sum())


def epsilon_at_least(examples, guesses, right, delta, confidence):
    """Return the largest ε that so many right guesses refute."""

    def chance(epsilon):
        """Bound the probability of so many right guesses under (epsilon, delta)."""
        q = float(expit(epsilon))
        below = np.cumsum(binom.pmf(right - np.arange(1, right + 1), guesses, q))
        alpha = float((below / np.arange(1, right + 1)).max(initial=0.0))
        return float(binom.sf(right - 1, guesses, q)) + 2 * examples * delta * alpha

    low, high = 0.0, 20.0
    if chance(low) > 1 - confidence:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) <= 1 - confidence else (low, middle)
    return low


def losses(model, x, y):
    scores = task.forward(model, x)[1]
    scores = scores - scores.max(axis=1, keepdims=True)
    return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]


def area_under_curve(members, others):
    """Return the chance that a member's loss is the smaller one of a random pair's."""
    less = members[:, None] < others[None, :]
    return float(less.mean() + (members[:, None] == others[None, :]).mean() / 2)


def main_audit():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two levels of noise, no inference")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    console, figures = Console(), {"canaries": {}, "inference": {}}
    table = Table("noise multiplier", "right guesses", "ε at least", "ε claimed", box=box.SIMPLE)
    table.title = (
        f"{CANARIES} canaries, {ROUNDS} rounds, δ = {DELTA:g}, {CONFIDENCE:.0%} confidence"
    )
    holds = True
    for noise in (0, 4) if options.quick else (0, 1, 2, 4, 8, 16):
        final, claimed = run("canaries", noise, CANARIES)
        guesses, right = right_guesses(final)
        proven = epsilon_at_least(CANARIES, guesses, right, DELTA, CONFIDENCE)
        holds &= proven <= claimed
        figures["canaries"][noise] = {"at_least": proven, "claimed": claimed, "right": right}
        table.add_row(f"{noise:g}", f"{right} of {guesses}", f"{proven:.2f}", f"{claimed:.2f}")
    console.print(table)
    if not options.quick:
        table = Table("noise multiplier", "ε", "accuracy", "attack's area", box=box.SIMPLE)
        table.title = f"Membership of {MEMBERS} images of {task.data_name()}, {CLIENTS} clients"
        test = task.data("test")
        for noise in (0, 0.5, 2, 5):
            final, claimed = run("inference", noise, CLIENTS)
            area = area_under_curve(losses(final, *member_data()), losses(final, *other_data()))
            accuracy = task.accuracy(final, *test)
            figures["inference"][noise] = {"area": area, "accuracy": accuracy, "epsilon": claimed}
            table.add_row(f"{noise:g}", f"{claimed:.1f}", f"{accuracy:.3f}", f"{area:.3f}")
        console.print(table)
    if options.json:
        options.json.write_text(json.dumps(figures))
    if not holds:
        raise SystemExit("a lower bound is over the ε claimed: the claim is wrong")


if __name__ == "__main__":
    main_audit()
