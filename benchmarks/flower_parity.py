"""The same script on Umbel and on Flower: how far the models lie apart, and how long each takes.

    python benchmarks/flower_parity.py --flower /path/to/python-with-flwr

Needs scikit-learn here, and ``flwr[simulation]`` in an environment of its own. Flower adds replies
up in the order in which they happen to come, so that its own float32 sums differ from run to run in
their last bits. Each case therefore runs a second time with a server that computes in float64, on
both: there, nothing but the rule itself is left to differ, and what Flower computes is the
reference that both float32 models are compared with (the columns "error").

Ends with status 1 when two models lie farther apart than 1e-6 in any number: those in float64
always, those in float32 unless the rule divides by ``sqrt(v) + tau``. Such a rule magnifies the
last bit of a mean by up to ``eta / tau``, on either framework, and the bound with it. The wrappers
for differential privacy run without noise, around FedAvg, over clients that weigh the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
TOLERANCE = 1e-6


class Case(NamedTuple):
    """A strategy with its options, in one of Flower's APIs."""

    api: str
    strategy: str
    options: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    differs: str = ""
    """Why Umbel must give another model, where it must."""

    @property
    def bound(self) -> float:
        """How far apart models in float32 may lie: an adaptive rule magnifies rounding."""
        return TOLERANCE * max(1.0, self.options.get("eta", 0.0) / self.options.get("tau", 1.0))


ADAPTIVE = {"eta": 0.1, "tau": 1e-3}
MOMENTUM = {"server_learning_rate": 0.9, "server_momentum": 0.5}
CASES = [
    Case("message", "FedAvg"),
    Case("message", "FedAvgM", MOMENTUM),
    Case("message", "FedProx", {"proximal_mu": 0.1}),
    Case("message", "FedAdagrad", ADAPTIVE),
    Case("message", "FedAdam", ADAPTIVE),
    Case("message", "FedYogi", {"eta": 0.01, "tau": 1e-3}),
    Case("message", "FedMedian"),
    Case("message", "FedTrimmedAvg"),
    Case("message", "QFedAvg", {"client_learning_rate": 0.1}),
    Case("message", "Krum", {"num_malicious_nodes": 2}),
    Case("message", "MultiKrum", {"num_malicious_nodes": 2, "num_nodes_to_select": 5}),
    Case("message", "Bulyan", {"num_malicious_nodes": 1}, "Flower selects all replies at once"),
    Case("message", "DifferentialPrivacyServerSideFixedClipping", {"clipping_norm": 0.5}),
    Case("message", "DifferentialPrivacyClientSideFixedClipping", {"clipping_norm": 0.5}),
    Case("older", "FedAvg"),
    Case("older", "FedAvgM", MOMENTUM),
    Case("older", "FedProx", {"proximal_mu": 0.1}),
    Case("older", "FedAdagrad", ADAPTIVE),
    Case("older", "FedAdam", ADAPTIVE),
    Case("older", "FedYogi", {"eta": 0.01, "tau": 1e-3}),
    Case("older", "FedMedian"),
    Case("older", "FedTrimmedAvg"),
    Case(
        "older",
        "Bulyan",
        {"num_malicious_clients": 1, "to_keep": 0},
        "in Flower the order of replies decides",
    ),
    Case("older", "DifferentialPrivacyServerSideFixedClipping", {"clipping_norm": 0.5}),
    Case("older", "DifferentialPrivacyClientSideFixedClipping", {"clipping_norm": 0.5}),
    Case("start_simulation", "FedAvg"),
    Case("start_simulation", "FedAdam", ADAPTIVE),
]


class Outcome(NamedTuple):
    """What a run came to, and its seconds: the rounds alone, and the whole command."""

    arrays: list[np.ndarray]
    rounds_s: float
    command_s: float


def write_digits(path: Path) -> None:
    """Write scikit-learn's digits, sorted by label, so that each client has a few of them."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.argsort(digits.target[:1500], kind="stable")
    images = (digits.data[:1500][order] / 16).astype(np.float32)
    np.savez(path, images=images, labels=digits.target[:1500][order])


def run(command: list[str], case: Case, dtype: str, folder: Path) -> Outcome:
    """Run the script in a process of its own."""
    # BLAS with one thread: then a client computes the same bits wherever it runs.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if "umbel.flwr" in command:
        environment["PYTHONPATH"] = str(HERE.parent / "src")
    facts = {"api": case.api, "strategy": case.strategy, "options": case.options}
    facts |= {"dtype": dtype, "data": str(folder / "digits.npz")}
    out = folder / "out.npz"
    out.unlink(missing_ok=True)
    script = str(HERE / "cases" / "parity_app.py")
    begin = time.perf_counter()
    # A file, not a pipe: what Ray leaves running would keep a pipe open.
    with (folder / "log").open("w+") as log:
        done = subprocess.run(
            [*command, script, json.dumps(facts), str(out)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        seconds = time.perf_counter() - begin
        log.seek(0)
        if done.returncode or not out.exists():
            raise SystemExit(f"{' '.join(command)} failed:\n{log.read()[-4000:]}")
    with np.load(out) as found:
        arrays = [found[key] for key in sorted(found) if key.startswith("arr_")]
        return Outcome(arrays, float(found["seconds"]), seconds)


def gap(ours: Outcome, theirs: Outcome) -> float:
    """Return the largest difference of two numbers of the models."""
    pairs = zip(ours.arrays, theirs.arrays, strict=True)
    return max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in pairs)


def relative_gap(ours: Outcome, theirs: Outcome) -> float:
    """Return the largest difference, as a part of its array's largest value."""
    pairs = zip(ours.arrays, theirs.arrays, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def compare(flower: str, case: Case, folder: Path) -> bool:
    """Run a case four times, print its row, and return whether the bounds hold."""
    umbel = [sys.executable, "-m", "umbel.flwr"]
    ours, theirs = run(umbel, case, "f4", folder), run([flower], case, "f4", folder)
    wide, reference = run(umbel, case, "f8", folder), run([flower], case, "f8", folder)
    exact, single, relative = gap(wide, reference), gap(ours, theirs), relative_gap(ours, theirs)
    distance, their_distance = gap(ours, reference), gap(theirs, reference)
    within = exact <= TOLERANCE and single <= case.bound
    verdict = f"{case.bound:.0e}: {'kept' if within else 'BROKEN'}"
    if case.differs:
        within, verdict = True, f"none: {case.differs}"
    cells = [case.api, case.strategy, f"{single:.1e}", f"{relative:.1e}", f"{exact:.1e}"]
    cells += [f"{distance:.1e}", f"{their_distance:.1e}", verdict]
    cells += [f"{o.rounds_s:.2f}, {o.command_s:.1f}" for o in (theirs, ours)]
    cells += [f"{theirs.rounds_s / ours.rounds_s:.0f}, {theirs.command_s / ours.command_s:.0f}"]
    print(f"| {' | '.join(cells)} |", flush=True)
    return within


HEAD = """\
| API | strategy | largest difference | relative | in float64 | Umbel's error | Flower's error \
| bound | Flower: rounds, command (s) | Umbel (s) | times faster |
|---|---|---|---|---|---|---|---|---|---|---|"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flower", required=True, help="a Python that has flwr[simulation]")
    parser.add_argument("--only", help="one strategy, such as FedAvg")
    parser.add_argument("--api", help="one API: message, older or start_simulation")
    arguments = parser.parse_args()
    print(HEAD, flush=True)
    kept = True
    with tempfile.TemporaryDirectory() as name:
        write_digits(Path(name, "digits.npz"))
        for case in CASES:
            if arguments.only in (None, case.strategy) and arguments.api in (None, case.api):
                kept &= compare(arguments.flower, case, Path(name))
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
