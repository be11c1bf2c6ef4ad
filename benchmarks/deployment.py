"""Umbel's deployment on loopback: seconds a round, throughput, memory of each process.

Run it with ``python benchmarks/deployment.py``. Each row starts a server and its nodes as processes
of their own, sends the app as a user does, and reads the round times from the run's log. The first
round, which loads the app, is told apart. ``--tls`` puts mutual TLS in between.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import psutil
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

UMBEL = [sys.executable, "-c", "from umbel.cli import main; main()"]
KINDS = {"server": "cli import main; main() server", "server app": "server.child"}
WAIT_S = 120.0


class Federation:
    """A server and nodes, as processes, in a folder that goes away with them."""

    def __init__(self, stack: ExitStack, nodes: int, *, tls: bool) -> None:
        self._stack = stack
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._tls = tls
        self.environment = {"XDG_CONFIG_HOME": str(self._folder / "config")}
        data = self._folder / "server"
        if tls:
            self.umbel("server", "init", "--data", str(data))
        security = [] if tls else ["--insecure"]
        server = self._start("server", "--data", str(data), "--port", "0", *security)
        self.server = psutil.Process(server.pid)
        self.address = f"localhost:{self._port()}"
        self.nodes = [psutil.Process(self._node(number).pid) for number in range(nodes)]
        arguments = self._join("admin", "me") if tls else ["--address", self.address, "--insecure"]
        self.umbel("connect", "local", *arguments)
        self._wait_for(nodes)

    def run(self, kilobytes: int, rounds: int) -> tuple[list[dict], float, dict[str, float]]:
        """Run the app; return its log, the seconds to its first round, and peaks of memory."""
        settings = {"kilobytes": kilobytes, "rounds": rounds, "nodes": len(self.nodes)}
        options = [f"--config={key}={value}" for key, value in settings.items()]
        begin = time.time()
        started = json.loads(self.umbel("run", str(APP), "--on", "local", "--json", *options))
        name = started["run-id"]
        peaks: dict[str, float] = {}
        log = [*UMBEL, "log", name, "--on", "local", "--follow", "--json"]
        follower = subprocess.Popen(log, env=self._env(), stdout=subprocess.PIPE, text=True)
        while follower.poll() is None:
            self._sample(peaks)
            time.sleep(0.02)
            if kilobytes < 1000:
                break
        entries = [json.loads(line) for line in follower.communicate()[0].splitlines()]
        self._sample(peaks)
        first = next(entry["at"] for entry in entries if entry["event"] == "round_started")
        return entries, first - begin, peaks

    def umbel(self, *arguments: str) -> str:
        done = subprocess.run(
            [*UMBEL, *arguments], env=self._env(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"umbel {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def idle(self) -> tuple[float, float]:
        """Return the memory (MB) of a node with all its processes, and its CPU (%) over 3 s."""
        node = self.nodes[0]
        family = [node, *node.children(recursive=True)]
        before = sum(sum(process.cpu_times()[:2]) for process in family)
        time.sleep(3)
        after = sum(sum(process.cpu_times()[:2]) for process in family)
        return sum(p.memory_info().rss for p in family) / 1e6, (after - before) / 3 * 100

    def _sample(self, peaks: dict[str, float]) -> None:
        apps = [p for p in self.server.children() if "server.child" in " ".join(_command(p))]
        workers = [child for node in self.nodes[:1] for child in node.children(recursive=True)]
        groups = {
            "server": [self.server],
            "server app": apps,
            "node": self.nodes[:1],
            "worker": workers,
        }
        for kind, processes in groups.items():
            for process in processes:
                for name, megabytes in _memory(process.pid).items():
                    key = f"{kind} {name}"
                    peaks[key] = max(peaks.get(key, 0.0), megabytes)

    def _node(self, number: int) -> subprocess.Popen:
        data = ["--data", str(self._folder / f"node-{number}"), "--trust-any"]
        where = ["--join", self._token("node", "")] if self._tls else [self.address, "--insecure"]
        return self._start("node", *where, *data)

    def _join(self, role: str, name: str) -> list[str]:
        return ["--join", self._token(role, name)]

    def _token(self, role: str, name: str) -> str:
        where = ["--data", str(self._folder / "server"), "--address", self.address]
        return self.umbel("token", "create", *where, "--role", role, "--name", name).strip()

    def _start(self, *arguments: str) -> subprocess.Popen:
        log = self._folder / f"{len(list(self._folder.glob('*.log')))}.log"
        file = self._stack.enter_context(log.open("w"))
        process = subprocess.Popen([*UMBEL, *arguments], env=self._env(), stdout=file, stderr=file)
        self._stack.callback(process.wait, 30)
        self._stack.callback(process.terminate)
        return process

    def _port(self) -> int:
        log = self._folder / "0.log"
        return int(_until(lambda: re.search(r"127\.0\.0\.1:(\d+)", log.read_text()))[1])

    def _wait_for(self, nodes: int) -> None:
        def connected() -> bool:
            known = json.loads(self.umbel("nodes", "ls", "--on", "local", "--json"))["nodes"]
            return sum(node["status"] == "connected" for node in known) == nodes

        _until(connected)

    def _env(self) -> dict[str, str]:
        import os

        source = str(HERE.parent / "src")
        return {**os.environ, **self.environment, "PYTHONPATH": source, "COLUMNS": "200"}


def _until(condition):
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise SystemExit("the federation did not come up")
        time.sleep(0.05)
    return value


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


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
        federation = Federation(stack, nodes, tls=tls)
        entries, first_s, peaks = federation.run(kilobytes, rounds)
        ended = entries[-1]
        if ended["event"] != "run_finished":
            raise SystemExit(f"the run failed: {ended['data']}")
        # From start to start, so that publishing and the checkpoint are in it.
        times = [e["at"] for e in entries if e["event"] in ("round_started", "run_finished")]
        seconds = [end - begin for begin, end in pairwise(times)]
        idle_mb, idle_cpu = federation.idle()
        return {
            "first": first_s,
            "round 1": seconds[0],
            "round": statistics.median(seconds[1:]),
            "idle MB": idle_mb,
            "idle %": idle_cpu,
            **peaks,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--only", nargs=2, type=int, metavar=("NODES", "KB"))
    options = parser.parse_args()
    cases = {tuple(options.only): CASES.get(tuple(options.only), 5)} if options.only else CASES
    table = Table(title=f"Umbel's deployment on loopback{', mutual TLS' if options.tls else ''}")
    columns = ["nodes x model", "submit -> round s", "round 1 s", "round s", "MB/s"]
    kinds = ("server", "server app", "node", "worker")
    for name in (*columns, *(f"{kind} MB" for kind in kinds), "idle node MB", "idle CPU %"):
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
        )
    table.caption = "Peak resident memory; in parentheses what is not backed by a file."
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
