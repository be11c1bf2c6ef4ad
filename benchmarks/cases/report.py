"""What a benchmarked process says at its end: one line of JSON."""

from __future__ import annotations

import json
import time
from pathlib import Path


def seconds_alive() -> float:
    """Return how long this process has been running, interpreter start included."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / 100


def print_report(rounds: list[float], startup: float | None = None) -> None:
    """Print the seconds of each round and the seconds until the first one began."""
    if startup is None:
        startup = max(0.0, seconds_alive() - sum(rounds))
    print("REPORT " + json.dumps({"startup_s": startup, "rounds_s": rounds}), flush=True)
