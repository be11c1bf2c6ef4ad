"""Umbel's simulation beside the bare loop, and beside Flower's where that is installed.

Run it with ``python benchmarks/simulation.py``; every row is measured in fresh processes, the
frameworks in turn, and the median is shown. For Flower, give the interpreter of an environment
that has ``flwr[simulation]`` (and torch for the CNN): ``--flower path/to/bin/python``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

CAPTION = (
    "floor: the same clients in a bare loop, and for the CNN in a pool of two processes. What a "
    "loop costs depends on whether the C library hands freed memory back to the system each "
    "time; 'memory kept' tells it not to, as Umbel does in its workers. Two floors share nothing "
    "and merge nothing: they show what the machine allows."
)
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
HERE = Path(__file__).parent
SAMPLE_S = 0.1
FLOWER_ROUNDS = 4
"""Its rounds take so long that more of them would take an hour."""


@dataclass(frozen=True)
class Case:
    """A row of the table: clients a round, kilobytes a model, and rounds to run."""

    kind: str
    clients: int
    kilobytes: int
    rounds: int

    @property
    def name(self) -> str:
        if self.kind == "cnn":
            return f"CNN, {self.clients} of 100 clients"
        size = f"{self.kilobytes // 1000} MB" if self.kilobytes >= 1000 else "10 KB"
        return f"{self.clients} x {size}"

    def arguments(self, processes: int) -> list[str]:
        return [
            self.kind,
            str(self.clients),
            str(self.kilobytes),
            str(self.rounds),
            str(processes),
        ]


CASES = [
    Case("trivial", 10, 40_000, 12),
    Case("trivial", 100, 1_000, 40),
    Case("trivial", 100, 10, 60),
    Case("trivial", 1000, 10, 20),
    Case("trivial", 1000, 1_000, 8),
    Case("cnn", 10, 0, 6),
    Case("cnn", 20, 0, 5),
]


@dataclass(frozen=True)
class Figures:
    """What one run gave; the memory is the peak over all its processes, shared pages once."""

    startup_s: float
    ms_per_task: float
    peak_mib: float


def proportional_set_size(process: psutil.Process) -> float:
    """Return the MiB of a process tree, memory that is shared counted once."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            text = Path(f"/proc/{member.pid}/smaps_rollup").read_text()
        except OSError:  # it has ended meanwhile
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")
    return total / 1024


def run(command: list[str], case: Case) -> Figures:
    """Run one process to its end, sampling its memory meanwhile."""
    environment = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent / 'src'}"}
    process = psutil.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    peak = 0.0
    while True:
        try:
            out, errors = process.communicate(timeout=SAMPLE_S)
            break
        except subprocess.TimeoutExpired:
            peak = max(peak, proportional_set_size(process))
    report = next((line for line in out.splitlines() if line.startswith("REPORT ")), None)
    if process.returncode or report is None:
        sys.exit(f"{' '.join(command)} failed:\n{errors or out}")
    figures = json.loads(report.removeprefix("REPORT "))
    # The first round loads data and fills caches, in every framework.
    round_s = statistics.median(figures["rounds_s"][1:])
    return Figures(figures["startup_s"], round_s / case.clients * 1000, peak)


def commands(case: Case, flower: str | None) -> dict[str, list[str]]:
    """Return what is measured for a case, by name; the others are held against the first."""
    floor = [sys.executable, "-m", "cases.run_floor"]
    kept = ["env", *(f"{name}={value}" for name, value in KEEP_MEMORY.items()), *floor]
    if case.kind == "cnn":
        measured = {"floor, 2 processes": [*floor, *case.arguments(2)]}
    else:
        measured = {
            "floor": [*floor, *case.arguments(1)],
            "floor, memory kept": [*kept, *case.arguments(1)],
            "2 floors, memory kept": [*kept, *case.arguments(2)],
        }
    measured["umbel"] = [
        *(sys.executable, "-m", "cases.run_umbel"),
        *case.arguments(2),
        "processes",
    ]
    if flower is not None:
        few = replace(case, rounds=FLOWER_ROUNDS)
        measured["flower"] = [flower, "-m", "cases.run_flower", *few.arguments(2)]
    return measured


def measure(case: Case, flower: str | None, repeats: int) -> dict[str, Figures]:
    """Return the median figures of each framework."""
    runs: dict[str, list[Figures]] = {}
    for _ in range(repeats):
        for name, command in commands(case, flower).items():
            runs.setdefault(name, []).append(run(command, case))
    return {
        name: Figures(
            statistics.median(f.startup_s for f in figures),
            statistics.median(f.ms_per_task for f in figures),
            statistics.median(f.peak_mib for f in figures),
        )
        for name, figures in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flower", help="an interpreter that has flwr[simulation]")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="run only the cases whose name contains this")
    options = parser.parse_args()
    table = Table(title="Simulation on two workers", caption=CAPTION)
    for column in ("clients x model", "measured"):
        table.add_column(column)
    for column in ("start-up s", "ms / task", "x floor", "PSS MiB"):
        table.add_column(column, justify="right")
    for case in CASES:
        if options.only and options.only not in case.name:
            continue
        if case.kind == "cnn" and not Path("/usr/share/datasets/fashion-mnist").exists():
            print(f"{case.name}: left out, Debian's dataset-fashion-mnist is not installed")
            continue
        measured = measure(case, options.flower, options.repeats)
        floor = next(iter(measured.values())).ms_per_task
        for name, figures in measured.items():
            table.add_row(
                case.name,
                name,
                f"{figures.startup_s:.2f}",
                f"{figures.ms_per_task:.3f}",
                f"{figures.ms_per_task / floor:.2f}",
                f"{figures.peak_mib:.0f}" if figures.peak_mib else "-",
            )
        table.add_section()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
