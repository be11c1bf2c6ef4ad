"""Flower's deployment on loopback, for ``deployment.py``: the same app, so many supernodes.

A superlink and its supernodes, each a process of its own, run an app whose clients send back a
random model; the server app writes when each round began. Installing dependencies at run time is
turned off.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

PROJECT = """
[project]
name = "deployment-case"
version = "1.0.0"

[tool.flwr.app]
publisher = "umbel"

[tool.flwr.app.components]
serverapp = "case:server"
clientapp = "case:client"
"""

APP = """
import json, time
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()
fresh = np.random.default_rng()

@client.train()
def train(message, context):
    model = message.content["arrays"]["w"].numpy()
    update = fresh.random(model.size, dtype=np.float32)
    content = {{"arrays": ArrayRecord({{"w": Array(update)}})}}
    content["metrics"] = MetricRecord({{"num-examples": 1}})
    return Message(RecordDict(content), reply_to=message)

class Timed(FedAvg):
    times = []
    def configure_train(self, *args, **kwargs):
        self.times.append(time.time())
        return super().configure_train(*args, **kwargs)

@server.main()
def main(grid, context):
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes={nodes}, min_available_nodes={nodes})
    model = ArrayRecord({{"w": Array(fresh.random({items}, dtype=np.float32))}})
    strategy.start(grid=grid, initial_arrays=model, num_rounds={rounds})
    Path({out!r}).write_text(json.dumps([*strategy.times, time.time()]))
"""


def measure(python: Path, nodes: int, kilobytes: int, rounds: int, limit_s: float) -> float:
    """Return the median seconds of a round; the first, which loads the app, is left out.

    Raises
    ------
    RuntimeError
        Flower did not get through the rounds in time, or failed; the text is the end of its output.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        app, home, out = folder / "app", folder / "home", folder / "times.json"
        app.mkdir()
        home.mkdir()
        (app / "pyproject.toml").write_text(PROJECT)
        items = kilobytes * 250
        settings = {"nodes": nodes, "items": items, "rounds": rounds, "out": str(out)}
        (app / "case.py").write_text(APP.format(**settings))
        port = _free_port()
        connection = (
            f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"'
        )
        (home / "config.toml").write_text(f"{connection}\ninsecure = true\n")
        log = stack.enter_context((folder / "log").open("w+"))
        binary = python.parent
        environment = {**os.environ, "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0"}
        environment["PATH"] = f"{binary}:{environment['PATH']}"

        def start(*arguments: object) -> None:
            process = subprocess.Popen(
                [str(binary / str(arguments[0])), *map(str, arguments[1:])],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(_end, process)

        start("flower-superlink", "--insecure", "--port", port,
              "--disable-runtime-dependency-installation")  # fmt: skip
        time.sleep(3)
        for _ in range(nodes):
            start("flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}",
                  "--port", _free_port())  # fmt: skip
        start("flwr", "run", app, "here", "--stream")
        deadline = time.monotonic() + limit_s
        while not out.exists() or not out.read_text():
            if time.monotonic() > deadline:
                log.seek(0)
                raise RuntimeError(f"nothing after {limit_s:g} s: ...{log.read()[-2000:]}")
            time.sleep(0.2)
        times = json.loads(out.read_text())
    return statistics.median([end - begin for begin, end in pairwise(times)][1:])


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
