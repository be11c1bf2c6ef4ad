"""``kill -9`` of server, server app, node and worker, at every kind of step and in between.

    python benchmarks/kills.py --kills 200

Each run must end with the bits of an undisturbed one: the same model, and the same metrics of every
round, in which each client counts its calls in ``Context.state``. A reply that was lost or counted
twice, or a state that was, would show in both.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from local_deployment import LocalDeployment, until

from umbel.base import AppProject, Seeds, Unreachable
from umbel.deployment import UserClient
from umbel.serverapp import read_log

VICTIMS = ("server", "server app", "node", "worker")
MOMENTS = (
    "run_started",
    "strategy_started",
    "round_started",
    "phase_started",
    "phase_finished",
    "server_evaluated",
    "round_finished",
    "a random moment",
)
NODES, SEED = 2, 7
RUN_DEADLINE_S = 120.0

_TOML = """
[project]
name = "counted"
version = "1.0"

[tool.umbel.app.components]
serverapp = "counted:server"
clientapp = "counted:client"

[tool.umbel.app.config]
num-rounds = 6
"""

_APP = '''
"""A model that depends on every draw of every client, and on how often each was called."""

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import ServerApp
from umbel.strategies import FedAdam

client, server = ClientApp(), ServerApp()
SIZE = 30_000  # bytes enough for an object of its own


def count(context, name):
    before = context.state[name]["calls"] if name in context.state else 0
    context.state[name] = MetricRecord({"calls": before + 1})
    return before + 1


def work():
    square = np.random.standard_normal((300, 300))
    return float(np.linalg.norm(square @ square @ square))


@client.train()
def train(message, context):
    calls = count(context, "train")
    arrays = {key: array.numpy().copy() for key, array in message.content["arrays"].items()}
    arrays["w"] += calls * np.random.standard_normal(SIZE)
    metrics = MetricRecord({"calls": calls, "work": work(), "num-examples": 1 + calls})
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
    return Message(content, reply_to=message)


@client.evaluate()
def evaluate(message, context):
    calls = count(context, "evaluate")
    mean = float(message.content["arrays"]["w"].numpy().mean())
    metrics = MetricRecord({"calls": calls, "mean": mean, "work": work(), "num-examples": 1})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@server.main()
def main(grid, context):
    return FedAdam(min_available_nodes=2).start(
        grid,
        ArrayRecord({"w": np.random.standard_normal(SIZE)}),
        num_rounds=context.run_config["num-rounds"],
        evaluate_fn=lambda number, arrays: MetricRecord({"drawn": np.random.random()}),
    )
'''


def write_app(folder: Path) -> Path:
    """Write the app that the runs are of."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(_TOML)
    (folder / "counted.py").write_text(_APP)
    return folder


class Killer:
    """Runs the app again and again, and kills what runs it."""

    def __init__(self, here: LocalDeployment, user: UserClient, app: Path) -> None:
        self._here = here
        self._user = user
        self._project = AppProject.read(app)
        self._chance = Seeds(11).child("kills").python()
        self.kills: Counter[tuple[str, str]] = Counter()
        self.missed = 0

    def run(self, plan: list[tuple[str, str]]) -> dict[str, Any]:
        """Run the app while the plan's victims are killed at its moments; return what it left."""
        run_id = self._user.submit(self._project, seed=SEED, seeded=True).run_id
        folder = self._here.run_folder(run_id)
        killed_in: dict[str, int] = {}
        for victim, moment in plan:
            seen = self._await(folder, moment)
            if seen is None:
                self.missed += 1  # the run was over before
                continue
            # A task whose worker dies three times fails, as it should: that is another test.
            if killed_in.get(victim) == seen:
                seen = self._await(folder, "round_started")
            if seen is not None and self._kill(victim, run_id):
                killed_in[victim] = seen
                self.kills[victim, moment] += 1
            else:
                self.missed += 1
        return self._outcome(run_id, folder)

    def _await(self, folder: Path, moment: str) -> int | None:
        """Wait until the moment comes; return the round it is, or None if the run ended first."""
        if moment == "a random moment":
            time.sleep(self._chance.uniform(0, 0.8))
            events = _events(folder)
            return None if _over(events) else len(_rounds(events))
        known = len(_events(folder)) if moment not in ("run_started", "strategy_started") else 0

        def look() -> tuple[int | None] | None:
            events = _events(folder)
            if moment in (event for event, _ in events[known:]):
                return (len(_rounds(events)),)
            return (None,) if _over(events) else None

        found: tuple[int | None] = until(look, RUN_DEADLINE_S)
        return found[0]

    def _kill(self, victim: str, run_id: str) -> bool:
        here = self._here
        assert here.server is not None
        if victim == "server":
            here.server.kill()
            here.start_server()
            return True
        number = self._chance.randrange(NODES)
        if victim == "node":
            here.nodes[number].kill()
            here.start_node(number, wait=False)
            return True
        if victim == "worker":
            parent, module = here.nodes[number], "umbel.clientapp.process"
        else:
            parent, module = here.server, "umbel.deployment.server.child"
        # It may be on its way: at the start of a run, or after another kill.
        until(lambda: parent.child(module) or self._ended(run_id), RUN_DEADLINE_S)
        child = parent.child(module)
        if child is None:
            return False
        child.kill()
        return True

    def _outcome(self, run_id: str, folder: Path) -> dict[str, Any]:
        until(lambda: _over(_events(folder)), RUN_DEADLINE_S)
        state = until(lambda: self._ended(run_id), RUN_DEADLINE_S)
        events = _events(folder)
        return {
            "status": state.status,
            "model": (folder / "model.safetensors").read_bytes(),
            "metrics": (folder / "metrics.jsonl").read_text(),
            "failures": [data for event, data in events if event == "failure"],
        }

    def _ended(self, run_id: str) -> Any:
        try:
            state = next(state for state in self._user.runs() if state.run_id == run_id)
        except Unreachable:
            return None  # the server has only just come back
        return state if state.ended_at else None


def _events(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    path = folder / "log.jsonl"
    return [(entry.event, entry.data) for entry in read_log(path)] if path.exists() else []


def _rounds(events: list[tuple[str, dict[str, Any]]]) -> set[int]:
    return {data["round"] for event, data in events if event == "round_finished"}


def _over(events: list[tuple[str, dict[str, Any]]]) -> bool:
    return any(event in ("run_finished", "run_failed") for event, _ in events)


def plans(kills: int, per_run: int) -> list[list[tuple[str, str]]]:
    """Return, for each run, whom to kill and when: each victim at each moment, again and again."""
    chance = Seeds(5).child("plans").python()
    pairs = [(victim, moment) for victim in VICTIMS for moment in MOMENTS]
    wanted: list[tuple[str, str]] = []
    while len(wanted) < kills:
        chance.shuffle(pairs)
        wanted += pairs
    wanted = wanted[:kills]
    early = [pair for pair in wanted if pair[1] in MOMENTS[:2]]
    late = [pair for pair in wanted if pair[1] not in MOMENTS[:2]]
    found = []
    while early or late:
        # The start of a run comes once.
        plan, early = early[:1], early[1:]
        room = per_run - len(plan)
        plan, late = plan + late[:room], late[room:]
        found.append(plan)
    return found


def measure(kills: int, per_run: int, folder: Path, wordy: bool = True) -> dict[str, Any]:
    """Return how many kills there were of which kind, and which runs were not as they should be."""
    begun = time.monotonic()
    with LocalDeployment(folder) as here:
        app = write_app(folder / "app")
        here.start_server()
        for number in range(NODES):
            here.start_node(number, "--trust-any", *(["--codec", "cbor"] if number else []))
        user = here.connect()
        killer = Killer(here, user, app)
        whole = killer.run([])
        assert whole["status"] == "succeeded", whole
        wrong = []
        runs = plans(kills, per_run)
        for number, plan in enumerate(runs):
            outcome = killer.run(plan)
            if outcome != whole:
                parts = {k: v for k, v in outcome.items() if k != "model" and v != whole[k]}
                wrong.append({"plan": plan, **parts})
            if wordy:
                total = sum(killer.kills.values())
                state = "ok" if outcome == whole else f"WRONG {wrong[-1]}"
                seconds = time.monotonic() - begun
                print(f"run {number + 1}: {total} kills, {seconds:.0f} s, {state}", file=sys.stderr)
        user.close()
    return {
        "kills": {f"{victim} at {moment}": n for (victim, moment), n in killer.kills.items()},
        "missed": killer.missed,
        "runs": len(runs),
        "wrong": wrong,
        "calls": json.loads(whole["metrics"].splitlines()[-1]),
        "seconds": time.monotonic() - begun,
    }


def table(kills: dict[str, int]) -> str:
    """Return the table of victims and moments."""
    lines = [f"{'killed at':<18}" + "".join(f"{victim:>12}" for victim in VICTIMS)]
    for moment in MOMENTS:
        counts = [kills.get(f"{victim} at {moment}", 0) for victim in VICTIMS]
        lines.append(f"{moment:<18}" + "".join(f"{count:>12}" for count in counts))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--per-run", type=int, default=8, help="kills in one run")
    parser.add_argument("--folder", type=Path, help="keep everything there")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="umbel-kills-"))
    found = measure(asked.kills, asked.per_run, folder)
    if asked.folder is None and not found["wrong"]:
        shutil.rmtree(folder)
    if asked.json:
        print(json.dumps(found))
    else:
        print(table(found["kills"]))
        total = sum(found["kills"].values())
        print(f"{total} kills in {found['runs']} runs, {found['seconds']:.0f} s")
        if not found["wrong"]:
            print("every model and every metric as in the undisturbed run")
        for each in found["wrong"]:
            print("WRONG", each)
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
