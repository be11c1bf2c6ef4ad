"""The same script on Umbel and on Flower: how far the models lie apart, and how long each takes.

    python benchmarks/flower_parity.py --flower /path/to/python-with-flwr

Flower lives in an environment of its own; without ``--flower`` only Umbel's times are printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TOLERANCE = 1e-6
CASES = [
    ("message", "FedAvg"),
    ("message", "FedAvgM", "server_learning_rate=0.9", "server_momentum=0.5"),
    ("message", "FedAdam", "eta=0.05"),
    ("older", "FedAvg"),
    ("older", "FedAvgM", "server_learning_rate=0.9", "server_momentum=0.5"),
    ("older", "FedAdam", "eta=0.05"),
]


def run(command: list[str], case: tuple[str, ...], out: Path) -> tuple[list, float, float]:
    """Return the final arrays, the seconds of the rounds, and the seconds of the process."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src")}
    begin = time.perf_counter()
    api, name, *options = case
    # A file, not a pipe: what Ray leaves running would keep a pipe open.
    with out.with_suffix(".log").open("w+") as log:
        done = subprocess.run(
            [*command, str(HERE / "cases" / "parity_app.py"), api, name, str(out), *options],
            env=environment if "umbel.flwr" in command else None,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        seconds = time.perf_counter() - begin
        log.seek(0)
        if done.returncode or not out.exists():
            raise SystemExit(f"{' '.join(command)} failed:\n{log.read()[-4000:]}")
    with np.load(out) as found:
        arrays = [found[key] for key in sorted(found) if key.startswith("arr_")]
        return arrays, float(found["seconds"]), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flower", help="a Python that has flwr[simulation]")
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    flower = parser.parse_args().flower
    worst = 0.0
    print("| API | strategy | Umbel: rounds, all | Flower: rounds, all | relative difference |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(CASES[: parser.parse_args().cases]):
            ours = run([sys.executable, "-m", "umbel.flwr"], case, Path(folder, f"{number}u.npz"))
            row = f"| {case[0]} | {' '.join(case[1:])} | {ours[1]:.2f} s, {ours[2]:.2f} s |"
            if flower:
                theirs = run([flower], case, Path(folder, f"{number}f.npz"))
                pairs = zip(ours[0], theirs[0], strict=True)
                # Relative to the largest value: float32 itself is no finer than 1.2e-7 of it.
                gap = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
                worst = max(worst, gap)
                row += f" {theirs[1]:.2f} s, {theirs[2]:.2f} s | {gap:.1e} |"
            print(row, flush=True)
    return int(not worst <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
