"""How many nodes one server holds: all connected at once, and a round over all of them.

Run it with ``python benchmarks/connections.py``. It begins with 1,000 nodes on loopback and a model
of 10 KB, and doubles until something gives way, which it names. Each node is a connection of its
own that greets, is sent its task, pulls the model and answers, as any node; they share a few
processes, and have no worker. ``--tls`` gives each its own certificate.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from local_deployment import LocalDeployment, Program
from rich.console import Console
from rich.table import Table

from umbel.deployment import join

HERE = Path(__file__).parent
APP = HERE / "cases" / "deployment"
KILOBYTES = 10
ROUNDS = 4
PROCESSES = os.cpu_count() or 1
CONNECT_S, RUN_S = 300.0, 600.0
"""What takes longer counts as having fallen over."""


class LightNodes(Program):
    """A process of many nodes."""

    def __init__(self, here: LocalDeployment, folder: Path, first: int, count: int) -> None:
        script = [str(HERE / "light_nodes.py"), here.address, str(folder), str(first), str(count)]
        super().__init__(script, here.environment, here.folder, subprocess.PIPE)
        self.count = count

    def __enter__(self) -> LightNodes:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.all_lines()

    def lost(self) -> list[str]:
        """Return why nodes were lost."""
        return [json.loads(line)["why"] for line in self.lines if line.startswith('{"lost"')]


@dataclass
class Row:
    """What came of so many nodes."""

    nodes: int
    connect_s: float
    rounds_s: list[float]
    server_mb: float
    server_files: int
    nodes_mb: float


class FellOver(Exception):
    """Where it ended, and how."""


def measure(count: int, *, tls: bool) -> Row:
    """Connect so many nodes and run rounds over all of them.

    Raises
    ------
    FellOver
        Not all connected, or a round lost some.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        here = stack.enter_context(LocalDeployment(folder, insecure=not tls))
        here.start_server()
        here.connect().close()
        if tls:
            enrol(here, folder / "nodes", count)
        server = here.server.process.pid
        begin = time.monotonic()
        groups = [stack.enter_context(group) for group in start(here, folder / "nodes", count)]
        try:
            wait_connected(groups, begin)
            connect_s = time.monotonic() - begin
            rounds_s = run(here, count, groups)
        except FellOver as error:
            limit = resource.prlimit(server, resource.RLIMIT_NOFILE)[1]
            held = f"the server had {open_files(server)} of {limit} files, {peak_mb(server):.0f} MB"
            raise FellOver(f"{error} ({held})") from error
        memory = sum(peak_mb(group.process.pid) for group in groups)
        return Row(count, connect_s, rounds_s, peak_mb(server), open_files(server), memory)


def enrol(here: LocalDeployment, folder: Path, count: int) -> None:
    """Get each node its certificate."""
    with ThreadPoolExecutor(8) as pool:
        for done in [
            pool.submit(join, here.token("node"), folder / str(number), f"light-{number}")
            for number in range(count)
        ]:
            done.result()


def start(here: LocalDeployment, folder: Path, count: int) -> list[LightNodes]:
    """Start the processes of the nodes."""
    bounds = [count * part // PROCESSES for part in range(PROCESSES + 1)]
    return [LightNodes(here, folder, first, end - first) for first, end in pairwise(bounds)]


def wait_connected(groups: list[LightNodes], begin: float) -> None:
    """Return when all nodes are connected."""
    for group in groups:
        left = max(1.0, CONNECT_S - (time.monotonic() - begin))
        try:
            group.wait_for(rf'"connected": {group.count}\b|"lost"', deadline_s=left)
        except AssertionError as error:
            raise FellOver(f"not all connect within {CONNECT_S:g} s: {error}") from error
        if lost := group.lost():
            raise FellOver(f"while nodes connect: {lost[0]}")


def run(here: LocalDeployment, count: int, groups: list[LightNodes]) -> list[float]:
    """Run the app; return how long each round took."""
    settings = {"kilobytes": KILOBYTES, "rounds": ROUNDS, "nodes": count}
    options = [f"--config={key}={value}" for key, value in settings.items()]
    name = here.umbel("run", APP, "--on", "local", "--json", *options)["run-id"]
    follower = here.program("log", name, "--on", "local", "--follow", "--json")
    try:
        wait_ended(follower, groups)
    finally:
        if follower.process.poll() is None:
            follower.kill()
    entries = [json.loads(line) for line in follower.all_lines() if line.startswith("{")]
    if not entries or entries[-1]["event"] != "run_finished":
        told = entries[-1]["data"].get("error") if entries else follower.text()
        raise FellOver(f"the run failed: {told}")
    for entry in entries:
        if entry["event"] == "phase_finished" and entry["data"]["failures"]:
            raise FellOver(f"a round had failures: {entry['data']}")
    times = [e["at"] for e in entries if e["event"] in ("round_started", "run_finished")]
    return [end - begin for begin, end in pairwise(times)]


def wait_ended(follower: Program, groups: list[LightNodes]) -> None:
    """Return when the run has ended."""
    until = time.monotonic() + RUN_S
    while follower.process.poll() is None:
        if lost := [why for group in groups for why in group.lost()]:
            raise FellOver(f"{len(lost)} nodes were lost during the run: {lost[0]}")
        if time.monotonic() > until:
            raise FellOver(f"{ROUNDS} rounds took more than {RUN_S:g} s")
        time.sleep(0.1)


def open_files(pid: int) -> int:
    """Return how many files a process has open; a connection is one."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has had."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000, help="how many to begin with")
    parser.add_argument("--until", type=int, default=64_000, help="go no further than this")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    table = Table(title=f"Nodes of one server on loopback{', mutual TLS' if options.tls else ''}")
    columns = ("nodes", "all connected s", "round s", "server MB", "its files", "all nodes MB")
    for name in columns:
        table.add_column(name, justify="right")
    count = options.nodes
    while count <= options.until:
        try:
            row = measure(count, tls=options.tls)
        except FellOver as error:
            table.caption = f"With {count} nodes: {error}"
            break
        table.add_row(
            str(row.nodes),
            f"{row.connect_s:.1f}",
            f"{statistics.median(row.rounds_s):.2f}",
            f"{row.server_mb:.0f}",
            str(row.server_files),
            f"{row.nodes_mb:.0f}",
        )
        print(f"{count} nodes: {row}", file=sys.stderr)
        count *= 2
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
