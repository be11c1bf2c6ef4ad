"""How fast replies are aggregated, against one pass of BLAS and of NumPy over the same data.

python benchmarks/aggregation.py                              # 20 replies of 2 M float32
python benchmarks/aggregation.py --replies 100 --items 10_000_000

Each case runs in a process of its own. `peak` is the memory that it took beyond the replies that
are handed to it; `GB/s` counts every reply once. All but the first three keep replies on disk:
`add` writes them and `finish` reads them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates import (
    Aggregator,
    BulyanRule,
    GeometricMedianRule,
    KeepReplies,
    KrumRule,
    MedianRule,
    TrimmedMeanRule,
    WeightedMean,
)

DISTINCT = 8  # replies take turns, so that the cases can be told from the memory of their input
ROUNDS = 3


def replies(count: int, items: int) -> Callable[[], Iterator[np.ndarray]]:
    rng = np.random.default_rng(1)
    distinct = [rng.standard_normal(items, np.float32) for _ in range(min(DISTINCT, count))]
    return lambda: (distinct[i % len(distinct)] for i in range(count))


def axpy(arrays: Iterator[np.ndarray]) -> None:
    from scipy.linalg.blas import saxpy

    total = np.zeros_like(next(arrays))
    for array in arrays:
        saxpy(array, total, a=0.5)


def numpy_pass(arrays: Iterator[np.ndarray]) -> None:
    total = np.zeros_like(next(arrays))
    for array in arrays:
        total += array * np.float32(0.5)


def aggregate(aggregator: Aggregator, arrays: Iterator[np.ndarray]) -> float:
    """Fold the replies and return how long `finish` took of it."""
    aggregator.looks_at_values = False  # as workers do, which then ask whether the sum is sound
    acc = aggregator.zero()
    for array in arrays:
        metrics = MetricRecord({"num-examples": 2})
        acc = aggregator.add(acc, RecordDict({"a": ArrayRecord([array]), "m": metrics}))
    begin = time.perf_counter()
    assert aggregator.is_sound(acc)
    aggregator.finish(acc)
    return time.perf_counter() - begin


def kept(rule: object) -> Callable[[argparse.Namespace], Aggregator]:
    return lambda options: KeepReplies(
        rule, memory_limit_bytes=options.memory << 20, spill_dir=options.spill_dir
    )


PASSES = {"BLAS axpy": axpy, "NumPy acc += x * w": numpy_pass}
AGGREGATORS = {
    "mean": lambda options: WeightedMean(),
    "median": kept(MedianRule()),
    "trimmed mean": kept(TrimmedMeanRule(0.2)),
    "Krum": kept(KrumRule(3, 1)),
    "Bulyan": kept(BulyanRule(3)),
    "geometric median": kept(GeometricMedianRule(1e-6, 3)),
}


def measure(case: str, options: argparse.Namespace) -> dict[str, float]:
    make = replies(options.replies, options.items)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best, finish = float("inf"), 0.0
    for _ in range(ROUNDS if case in PASSES or case == "mean" else 1):
        aggregator = None if case in PASSES else AGGREGATORS[case](options)
        begin = time.perf_counter()
        of_it = 0.0
        if aggregator is None:
            PASSES[case](make())
        else:
            of_it = aggregate(aggregator, make())
        seconds = time.perf_counter() - begin
        if seconds < best:
            best, finish = seconds, of_it
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": best, "finish": finish, "peak_mb": peak / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replies", type=int, default=20)
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--memory", type=int, default=256, help="memory limit in MiB")
    parser.add_argument("--spill-dir", help="where replies are kept")
    parser.add_argument("--case", choices=[*PASSES, *AGGREGATORS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options)))
        return
    size = options.replies * options.items * 4 / 1e9
    print(
        f"{options.replies} replies x {options.items:,} float32 = {size:.2f} GB, "
        f"limit {options.memory} MiB, {os.cpu_count()} CPUs"
    )
    print(f"{'case':20} {'seconds':>8} {'add':>7} {'finish':>7} {'GB/s':>6} {'peak MB':>8}")
    for case in [*PASSES, *AGGREGATORS]:
        command = [sys.executable, __file__, *sys.argv[1:], "--case", case]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{case:20} {done.stderr.strip().splitlines()[-1]}")
            continue
        got = json.loads(done.stdout)
        add = got["seconds"] - got["finish"]
        print(
            f"{case:20} {got['seconds']:8.3f} {add:7.3f} {got['finish']:7.3f} "
            f"{size / got['seconds']:6.2f} {got['peak_mb']:8.0f}"
        )


if __name__ == "__main__":
    main()
