"""Accuracy by round of seven algorithms on clients with unlike mixes of classes.

    python benchmarks/reproduce/heterogeneity.py

Fashion-MNIST, cut among 20 clients by a Dirichlet distribution. The learning rate of each
algorithm is tuned on one grid for all, and the parameter that it has of its own on two values: by
the accuracy on images that serve nothing else (Ditto: on what clients hold out), with a seed that
serves nothing else. Then each runs with several seeds, which change the split, the first model, the
cohorts and the order of the images. At the end stands which of the orderings that papers report
hold. `--quick` takes seconds and tunes nothing: it shows that all of it learns, and no ordering.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import task
from algorithms import ALGORITHMS, CLIENTS, EPOCHS, UNEQUAL_EPOCHS, server
from claims import LAST, Curve, final, judge
from rich import box
from rich.console import Console
from rich.table import Table

from umbel import run_simulation

ALPHAS, SEEDS, ROUNDS = (0.1, 0.5), (1, 2, 3), 40
RATES, TUNING_SEED, TUNING_ROUNDS = (0.05, 0.1, 0.2, 0.4), 0, 20
FRACTION = 0.5
UNEQUAL = ("FedAvg", "FedNova")
"""Run once more with unequal epochs, by all clients in every round as in FedNova's paper."""

progress = Console(stderr=True)


def curve(name, alpha, seed, rounds, settings, *, judged_on="test", unequal=False):
    rate, tuned = settings
    config = {
        "algorithm": name,
        "alpha": alpha,
        "seed": seed,
        "rounds": rounds,
        "learning-rate": rate,
        "tuned": tuned,
        "judged-on": judged_on,
        "unequal": unequal,
        "fraction": 1.0 if unequal else FRACTION,
    }
    # By name, so that a worker loads data once for all its clients.
    here = Path(__file__).parent
    result = run_simulation(
        server, "algorithms:client", CLIENTS, seed=seed, run_config=config, app_dir=here
    )
    return Curve(
        [metrics["accuracy"] for metrics in result.evaluate_metrics_serverapp.values()],
        [metrics["accuracy"] for metrics in result.evaluate_metrics_clientapp.values()],
    )


def shown_values(name, found):
    """Return the accuracies that an algorithm is judged by: those of Ditto's are at the clients."""
    return found.at_clients if name == "Ditto" else found.on_server


def tuned_settings(name, alpha):
    """Return the (learning rate, own parameter) with the best accuracy on the tuning seed."""

    def score(settings):
        progress.print(f"tuning {name}, alpha {alpha}: {settings}", style="dim")
        found = curve(name, alpha, TUNING_SEED, TUNING_ROUNDS, settings, judged_on="validation")
        return final(shown_values(name, found))

    return max(((rate, own) for rate in RATES for own in ALGORITHMS[name].values), key=score)


def measure(alphas, seeds, rounds, settings_of):
    """Return the settings, and the curves by alpha and algorithm, one a seed."""
    settings, curves = {}, {}
    for alpha in alphas:
        settings[alpha] = {name: settings_of(name, alpha) for name in ALGORITHMS}
        curves[alpha] = {}
        for name, unequal in [(n, False) for n in ALGORITHMS] + [(n, True) for n in UNEQUAL]:
            title = f"{name}, unequal epochs" if unequal else name
            progress.print(f"{title}, alpha {alpha}", style="dim")
            chosen = settings[alpha][name]
            curves[alpha][title] = [
                curve(name, alpha, seed, rounds, chosen, unequal=unequal) for seed in seeds
            ]
    return settings, curves


def spread(values):
    """Return the mean and the standard deviation over seeds as text."""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def accuracy_table(settings, curves, rows, of_curve):
    """Return accuracies by round: of the algorithms in `rows`, as `of_curve` reads them."""
    rounds = len(next(iter(curves.values()))["Ditto"][0].at_clients)
    shown = sorted({*np.linspace(1, rounds, 6).round().astype(int).tolist()})
    table = Table(box=box.MARKDOWN)
    table.add_column("alpha")
    table.add_column("algorithm")
    table.add_column("tuned to")
    for title in (*map(str, shown), f"last {LAST}"):
        table.add_column(title, justify="right")
    for alpha, of_names in curves.items():
        for title in rows:
            name = title.partition(",")[0]
            rate, own = settings[alpha][name]
            tuned = ALGORITHMS[name].tuned
            by_seed = [of_curve(found)[-rounds:] for found in of_names[title]]
            means = [100 * statistics.fmean(values[at - 1] for values in by_seed) for at in shown]
            table.add_row(
                str(alpha),
                title,
                f"lr {rate:g}" + (f", {tuned} {own:g}" if tuned else ""),
                *(f"{mean:.1f}" for mean in means),
                spread([final(values) for values in by_seed]),
            )
    return table


def claims_table(curves):
    table = Table(box=box.MARKDOWN)
    for title in ("alpha", "what the paper reports", "paper", "gain here", "verdict"):
        table.add_column(title)
    for alpha, of_names in curves.items():
        for claim, gains, verdict in judge(of_names):
            gain = f"{spread(gains)} {claim.unit}"
            table.add_row(str(alpha), claim.text, claim.paper, gain, verdict)
    return table


def report(settings, curves, seeds):
    console = Console(width=None if sys.stdout.isatty() else 130)
    on_server = [title for title in next(iter(curves.values())) if title != "Ditto"]
    for paragraph in (
        f"{task.data_name()}, {CLIENTS} clients of whom {FRACTION:.0%} take part in a round, "
        f"{EPOCHS} epochs, seeds {', '.join(map(str, seeds))}. Accuracy in % by round, mean over "
        f"seeds; 'last {LAST}' is the mean over the last {LAST} rounds, ± the standard deviation "
        "over seeds.",
        "The global model, on the common test set. Unequal epochs: all clients take part, and "
        f"each draws {UNEQUAL_EPOCHS[0]} to {UNEQUAL_EPOCHS[1]} anew in every round.",
        accuracy_table(settings, curves, on_server, lambda found: found.on_server),
        "Ditto's personal models, and FedAvg's global one, on what each client held out. Its mix "
        "of classes is the client's own, so that these are not to be compared with the others.",
        accuracy_table(settings, curves, ["FedAvg", "Ditto"], lambda found: found.at_clients),
    ):
        console.print(paragraph, "\n", sep="")
    if len(seeds) > 1:  # one seed says nothing about an ordering
        console.print("Orderings. One holds if the gain is above zero in every seed.\n")
        console.print(claims_table(curves))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--quick", action="store_true", help="six rounds, one seed, no tuning")
    parser.add_argument("--json", type=Path, help="write settings and curves to this file")
    options = parser.parse_args()
    if options.quick:
        seeds = options.seeds[:1]
        settings, curves = measure(
            ALPHAS[:1], seeds, 6, lambda name, alpha: (RATES[1], ALGORITHMS[name].values[-1])
        )
    else:
        seeds = options.seeds
        settings, curves = measure(ALPHAS, seeds, options.rounds, tuned_settings)
    report(settings, curves, seeds)
    if options.json:
        of_alphas = {
            alpha: {name: [asdict(one) for one in found] for name, found in of_names.items()}
            for alpha, of_names in curves.items()
        }
        options.json.write_text(json.dumps({"settings": settings, "curves": of_alphas}))


if __name__ == "__main__":
    main()
