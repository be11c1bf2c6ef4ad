"""Umbel's deployment on loopback: seconds a round, throughput, memory of each process.

Run it with ``python benchmarks/deployment.py``. Each row starts a server and its nodes as processes
of their own, sends the app as a user does, and reads the round times from the run's log. The first
round, which loads the app, is told apart. ``--tls`` puts mutual TLS in between.
``--flower /path/to/python-with-flwr`` runs the same rounds on Flower's deployment, beside each row.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import flower_deployment
import psutil
from local_deployment import LocalDeployment
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
APP = HERE / "cases" / "deployment"
CASES = {
    (2, 10): 30,
    (10, 10): 20,
    (2, 40_000): 6,
    (10, 40_000): 4,
    (2, 400_000): 4,
    (4, 400_000): 3,
}
"""Nodes and kilobytes of the model, and rounds."""


def federate(stack: ExitStack, nodes: int, *, tls: bool) -> LocalDeployment:
    """Return a server with so many nodes, in a folder that goes away with them."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    here = stack.enter_context(LocalDeployment(folder, insecure=not tls))
    here.start_server()
    for number in range(nodes):
        here.start_node(number, "--trust-any")
    here.connect().close()
    return here


def run(here: LocalDeployment, kilobytes: int, rounds: int) -> tuple[list[dict], float, dict]:
    """Run the app; return its log, the seconds to its first round, and peaks of memory."""
    settings = {"kilobytes": kilobytes, "rounds": rounds, "nodes": len(here.nodes)}
    options = [f"--config={key}={value}" for key, value in settings.items()]
    begin = time.time()
    name = here.umbel("run", APP, "--on", "local", "--json", *options)["run-id"]
    peaks = Peaks(here)
    follower = here.program("log", name, "--on", "local", "--follow", "--json")
    while follower.process.poll() is None:
        if kilobytes >= 1000:  # watching costs time, and a small model no memory
            peaks.sample()
        time.sleep(0.05)
    peaks.sample()
    entries = [json.loads(line) for line in follower.all_lines()]
    first = next(entry["at"] for entry in entries if entry["event"] == "round_started")
    return entries, first - begin, peaks.megabytes


def idle(here: LocalDeployment) -> tuple[float, float]:
    """Return the memory (MB) of a node with all its processes, and its CPU (%) over 3 s."""
    node = here.nodes[0]
    time.sleep(1)  # until it has ended the run's worker
    family = [psutil.Process(node.process.pid), *node.descendants()]
    before = sum(sum(process.cpu_times()[:2]) for process in family)
    time.sleep(3)
    after = sum(sum(process.cpu_times()[:2]) for process in family)
    return sum(p.memory_info().rss for p in family) / 1e6, (after - before) / 3 * 100


class Peaks:
    """The most memory that each kind of process has had: the server, a node, their children."""

    def __init__(self, here: LocalDeployment) -> None:
        self.megabytes: dict[str, float] = {}
        self._here = here
        self._processes = {"server": here.server.process.pid, "node": here.nodes[0].process.pid}

    def sample(self) -> None:
        self._find()
        for kind, process in self._processes.items():
            for name, megabytes in _memory(process).items():
                key = f"{kind} {name}"
                self.megabytes[key] = max(self.megabytes.get(key, 0.0), megabytes)

    def _find(self) -> None:
        """Look for the children until they are known: to look costs more than all the rest."""
        if "server app" not in self._processes:
            app = self._here.server.child("umbel.deployment.server.child")
            self._processes |= {"server app": app.pid} if app else {}
        if "worker" not in self._processes:
            workers = self._here.nodes[0].descendants()
            self._processes |= {"worker": workers[0].pid} if workers else {}


def _memory(pid: int) -> dict[str, float]:
    """Return the resident memory of a process in MB, and the part that is not backed by files."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    found = {key: int(kb) / 1e3 for key, kb in re.findall(r"(VmHWM|RssAnon):\s+(\d+) kB", text)}
    names = {"VmHWM": "all", "RssAnon": "own"}
    return {names[key]: value for key, value in found.items()}


def measure(nodes: int, kilobytes: int, rounds: int, *, tls: bool) -> dict[str, float]:
    """Return the figures of one row."""
    with ExitStack() as stack:
        here = federate(stack, nodes, tls=tls)
        entries, first_s, peaks = run(here, kilobytes, rounds)
        ended = entries[-1]
        if ended["event"] != "run_finished":
            raise SystemExit(f"the run failed: {ended['data']}")
        # From start to start, so that publishing and the checkpoint are in it.
        times = [e["at"] for e in entries if e["event"] in ("round_started", "run_finished")]
        seconds = [end - begin for begin, end in pairwise(times)]
        idle_mb, idle_cpu = idle(here)
        return {
            "first": first_s,
            "round 1": seconds[0],
            "round": statistics.median(seconds[1:]),
            "idle MB": idle_mb,
            "idle %": idle_cpu,
            **peaks,
        }


def _flower(python: Path | None, nodes: int, kilobytes: int, umbel_s: float) -> str:
    if python is None:
        return "-"
    try:
        seconds = flower_deployment.measure(python, nodes, kilobytes, rounds=3, limit_s=400)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return f"{seconds:.2f} ({seconds / umbel_s:.0f} x)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--flower", type=Path, help="a Python with flwr, to be measured too")
    parser.add_argument("--only", nargs=2, type=int, metavar=("NODES", "KB"))
    options = parser.parse_args()
    cases = {tuple(options.only): CASES.get(tuple(options.only), 5)} if options.only else CASES
    table = Table(title=f"Umbel's deployment on loopback{', mutual TLS' if options.tls else ''}")
    columns = ["nodes x model", "submit -> round s", "round 1 s", "round s", "MB/s"]
    kinds = ("server", "server app", "node", "worker")
    for name in (
        *columns,
        *(f"{kind} MB" for kind in kinds),
        "idle node MB",
        "idle CPU %",
        "Flower s",
    ):
        table.add_column(name, justify="right")
    for (nodes, kilobytes), rounds in cases.items():
        row = measure(nodes, kilobytes, rounds, tls=options.tls)
        size = f"{kilobytes} KB" if kilobytes < 1000 else f"{kilobytes // 1000} MB"
        moved = 2 * nodes * kilobytes / 1e3 / row["round"]
        memory = [f"{row.get(f'{k} all', 0):.0f} ({row.get(f'{k} own', 0):.0f})" for k in kinds]
        table.add_row(
            f"{nodes} x {size}",
            f"{row['first']:.2f}",
            f"{row['round 1']:.3f}",
            f"{row['round']:.3f}",
            f"{moved:.0f}",
            *memory,
            f"{row['idle MB']:.0f}",
            f"{row['idle %']:.1f}",
            _flower(options.flower, nodes, kilobytes, row["round"]),
        )
    # Pages of files that are mapped count as resident while they are read, and are the kernel's
    # cache: it takes them back when it needs them. What is in parentheses it cannot.
    table.caption = "Peak resident memory; in parentheses what is not backed by a file."
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
