"""What secure aggregation costs: seconds for a client and for the server, bytes for a client.

    python benchmarks/secagg.py --flwr /path/to/python-with-flwr

Runs the protocol as ``with_secagg`` and ``secagg_mod`` do, in one process and without a network,
over cohorts of 10, 50 and 100 clients and models of 1e5, 1e6 and 1e7 numbers, without dropouts and
with 20 % of the clients lost after they shared their keys. A client's seconds hold all its steps:
keys, shares, the hash of the model, encoding, masks, signatures; not its training. The server's
hold all that it does for the round. Bytes are those of records and vectors; the model that every
round sends is not counted.

Where all clients together would mask more than ``--budget`` numbers, only some do (the column
"measured"), and the others take their steps without it; the server then unmasks a vector of the
same size whose sum means nothing. Otherwise the sum is compared with the plain one.

With ``--flwr``, Flower's SecAgg+ is measured with vectors, neighbours, threshold and dropouts of
the same numbers: one client through all of its stages, and each of the server's steps once, counted
as often as it happens. ``ratio`` is Flower's seconds over Umbel's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import umbel.secagg.client
from umbel.base import limit_parallel
from umbel.clientapp import secagg_mod
from umbel.records import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from umbel.secagg import Plan, SecAggParameters, ServerSession, choose_degree
from umbel.updates import ModularSum

HERE = Path(__file__).parent
SESSION = bytes(32)
MEASURED = 2


class Case(NamedTuple):
    """A cohort, a model, and how many clients are lost."""

    clients: int
    parameters: int
    dropped: int
    degree: int | None
    threshold: int

    @property
    def neighbourhood(self) -> int:
        """How many clients hold shares of one, itself included."""
        return self.clients if self.degree is None else self.degree + 1


class Cost(NamedTuple):
    """Seconds and bytes; ``measured`` is how many clients did all of it."""

    client_s: float
    server_s: float
    up_bytes: int
    down_bytes: int
    measured: int


def size(record: Any) -> int:
    """Return the bytes of a record's names and values, numbers with 8."""
    total = 0
    for key, value in record.items():
        items = value if isinstance(value, list) else [value]
        total += len(key) + sum(len(v) if isinstance(v, bytes | str) else 8 for v in items)
    return total


class Client:
    """One client: its update, its state, and the seconds that its mod took."""

    def __init__(self, node: int, model: ArrayRecord, update: np.ndarray) -> None:
        self.seconds = 0.0
        self.up_bytes = self.down_bytes = 0
        self._context = Context("run", node)
        self._mod = secagg_mod()
        self._model = model
        self._arrays = ArrayRecord({"w": update})

    def step(self, stage: str, payload: dict[str, Any]) -> Any:
        """Answer a step as the mod does; return the record, or the masked vector."""
        asked = ConfigRecord({"stage": stage, "session": SESSION, **payload})
        content = RecordDict({"secagg": asked})
        if stage == "mask":
            content["arrays"] = self._model
        message = Message(content, self._context.node_id, "train")
        begin = time.perf_counter()
        reply = self._mod(message, self._context, self._train).content
        self.seconds += time.perf_counter() - begin
        self.down_bytes += size(asked)
        if stage == "mask":
            vector = reply["masked"]["vector"].view()
            self.up_bytes += vector.nbytes
            return vector
        self.up_bytes += size(reply["secagg"])
        return reply["secagg"]

    def _train(self, message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 10 + context.node_id})
        return Message(RecordDict({"arrays": self._arrays, "metrics": metrics}), reply_to=message)


class Stopwatch:
    """The seconds of all that was called through it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.perf_counter()
        outcome = function(*arguments)
        self.seconds += time.perf_counter() - begin
        return outcome


def measure(case: Case, budget: float) -> Cost:
    """Run one round of the protocol."""
    rng = np.random.default_rng(0)
    before = rng.standard_normal(case.parameters, np.float32)
    update = before + rng.uniform(-0.1, 0.1, case.parameters).astype(np.float32)
    model = ArrayRecord({"w": before})
    plan = Plan({"*": 8.0}, weight_max=1000)
    codec = plan.codec(case.clients)
    parameters = SecAggParameters(case.threshold, case.parameters + 1, 32, case.degree)
    server, watch = ServerSession(parameters, SESSION, range(case.clients)), Stopwatch()
    clients = {node: Client(node, model, update) for node in range(case.clients)}
    offer = {**plan.to_config(), **parameters.payload()}
    roster = watch(server.roster, {n: c.step("advertise", offer) for n, c in clients.items()})
    relayed = watch(server.relay, {n: c.step("share", roster) for n, c in clients.items()})

    lost = set(rng.choice(case.clients, case.dropped, replace=False).tolist())
    stay = [node for node in clients if node not in lost]
    whole = len(stay) * case.neighbourhood * case.parameters <= budget
    masking = stay if whole else stay[:MEASURED]
    folding = ModularSum(parameters.length)
    acc = folding.zero()
    for node in stay:
        with masks_left_out(node not in masking):
            vector = clients[node].step("mask", relayed[node])
        content = RecordDict({"masked": ArrayRecord({"vector": vector})})
        acc = watch(folding.add, acc, content)
    told = watch(server.survivors, stay)
    signed = watch(server.signatures, {n: clients[n].step("consistency", told) for n in stay})
    shares = {node: clients[node].step("unmask", signed) for node in stay}
    total = watch(server.unmask, shares, folding.finish(acc).vector)
    decoded = watch(codec.decode, total, model.views())
    if whole:
        gap = float(np.abs(decoded.arrays["w"] - update).max())
        assert gap < 1e-5, gap
        assert decoded.weight == sum(10 + node for node in stay), decoded.weight
    done = [clients[node] for node in masking]
    return Cost(
        sum(client.seconds for client in done) / len(done),
        watch.seconds,
        done[0].up_bytes,
        done[0].down_bytes,
        len(done),
    )


@contextmanager
def masks_left_out(really: bool) -> Iterator[None]:
    """Let a client take its step without the one part of it that takes long."""
    masks = umbel.secagg.client.add_masks
    if really:
        umbel.secagg.client.add_masks = lambda vector, keys: None
    try:
        yield
    finally:
        umbel.secagg.client.add_masks = masks


def measure_flower(python: str, case: Case) -> Cost:
    """Measure Flower's steps with the same numbers, in a process of its own."""
    facts = {
        "clients": case.clients,
        "parameters": case.parameters,
        "neighbourhood": case.neighbourhood,
        "threshold": case.threshold,
        "dropped": case.dropped,
        "dropped_near": round(case.dropped * case.neighbourhood / case.clients),
    }
    command = [python, str(HERE / "cases" / "secagg_flower.py"), json.dumps(facts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    numbers = [told[name] for name in ("client_s", "server_s", "up_bytes", "down_bytes")]
    return Cost(*numbers, measured=1)


def cases(asked: argparse.Namespace) -> Iterator[Case]:
    """Yield what is to be measured; the largest last."""
    for parameters in asked.parameters:
        for clients in asked.clients:
            if asked.degree == "all":
                degree, threshold = None, -(-2 * clients // 3)
            else:
                choice = choose_degree(clients, corrupt=0.1, dropout=0.2)
                degree, threshold = choice.degree, choice.threshold
            for dropout in asked.dropout:
                yield Case(clients, int(parameters), round(dropout * clients), degree, threshold)


def row(case: Case, ours: Cost, theirs: Cost | None) -> str:
    """Return the line of a table."""
    cells = [
        f"{case.clients}",
        f"{case.parameters:.0e}".replace("e+0", "e"),
        f"{case.dropped}",
        f"{case.neighbourhood - 1}, {case.threshold}",
        f"{ours.client_s:.3f}",
        f"{ours.server_s:.3f}",
        f"{ours.up_bytes / 1e6:.2f}, {ours.down_bytes / 1e6:.2f}",
        f"{ours.measured}",
    ]
    if theirs is not None:
        cells += [
            f"{theirs.client_s:.3f}",
            f"{theirs.server_s:.3f}",
            f"{theirs.up_bytes / 1e6:.2f}, {theirs.down_bytes / 1e6:.2f}",
            f"{theirs.client_s / ours.client_s:.1f}, {theirs.server_s / ours.server_s:.1f}",
        ]
    return f"| {' | '.join(cells)} |"


HEAD = [
    "clients",
    "numbers",
    "lost",
    "neighbours, threshold",
    "client (s)",
    "server (s)",
    "MB up, down",
    "measured",
]
HEAD_FLOWER = ["Flower: client (s)", "server (s)", "MB up, down", "ratio: client, server"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flwr", metavar="PYTHON", help="a Python that has flwr")
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 50, 100])
    parser.add_argument("--parameters", type=float, nargs="+", default=[1e5, 1e6, 1e7])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0, 0.2])
    parser.add_argument("--degree", choices=["auto", "all"], default="auto")
    parser.add_argument("--threads", type=int, help="at most so many for Umbel")
    parser.add_argument("--budget", type=float, default=6e9, help="numbers to mask in one round")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.threads:
        limit_parallel(asked.threads)
    head = HEAD + (HEAD_FLOWER if asked.flwr else [])
    if not asked.json:
        print(f"{os.cpu_count()} cores, NumPy {np.__version__}\n")
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for case in cases(asked):
        ours = measure(case, asked.budget)
        theirs = measure_flower(asked.flwr, case) if asked.flwr else None
        if asked.json:
            told = {"case": case._asdict(), "umbel": ours._asdict()}
            print(json.dumps(told | ({"flower": theirs._asdict()} if theirs else {})), flush=True)
        else:
            print(row(case, ours, theirs), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
