"""``kill -9`` of a process that learns, at any moment: it goes on and ends with the same bits."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import umbel
from umbel.base import Seeds
from umbel.serverapp import Checkpoints, read_log

PROGRAM = """
import os
import signal
import sys
from pathlib import Path

import numpy as np

from umbel import ClientApp, ServerApp, run_simulation
from umbel.clientapp import ScaffoldTerm
from umbel.records import ArrayRecord, MetricRecord, Message, RecordDict
from umbel.strategies import Scaffold

client_app, server_app = ClientApp(), ServerApp()


@client_app.train()
def train(message, context):
    term = ScaffoldTerm(message, context, 0.1)
    arrays = {k: a.numpy() for k, a in message.content["arrays"].items()}
    pull = {"w": np.random.standard_normal(arrays["w"].shape)}
    arrays["w"] -= 0.1 * term.corrected(pull, arrays)["w"]
    metrics = MetricRecord({"num-examples": 1})
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
    return Message(term.finish(content), reply_to=message)


@server_app.main()
def main(grid, context):
    strategy = Scaffold(fraction_train=0.5, fraction_evaluate=0)
    initial = ArrayRecord({"w": np.random.standard_normal(20_000)})
    first = strategy.start(grid, initial, num_rounds=int(sys.argv[3]))
    return strategy.start(
        grid,
        first.arrays,
        num_rounds=int(sys.argv[3]),
        evaluate_fn=lambda number, arrays: MetricRecord({"drawn": np.random.random()}),
    )


def watch(event):
    if event.name == sys.argv[4] and event.data.get("round", 2) == 2:
        os.kill(os.getpid(), signal.SIGKILL)


folder = Path(sys.argv[1])
run_simulation(
    server_app,
    client_app,
    6,
    sys.argv[2],
    seed=7,
    run_dir=folder,
    observers=[watch],
    resumable=True,
    resume=(folder / "log.jsonl").exists(),
)
"""


@pytest.fixture
def begin(tmp_path):
    """Return a function that starts the program in a folder."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def start(folder, backend="inprocess", rounds=3, kill_at="-"):
        arguments = [folder, backend, rounds, kill_at]
        source = str(Path(umbel.__file__).parents[1])
        return subprocess.Popen(
            [sys.executable, program, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": source},
        )

    return start


def has_finished(folder):
    path = folder / "log.jsonl"
    entries = list(read_log(path)) if path.exists() else []
    return bool(entries) and entries[-1].event == "run_finished"


def files(folder):
    return [(folder / name).read_bytes() for name in ("model.safetensors", "metrics.jsonl")]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["inprocess", "processes"])
def test_ten_kills_at_random_moments(begin, tmp_path, backend):
    rounds, kills, folder = 200, 0, tmp_path / "cut"
    assert begin(tmp_path / "whole", rounds=rounds).wait() == 0
    chance = Seeds(11).child(backend).python()
    while not has_finished(folder):
        process = begin(folder, backend, rounds)
        try:
            limit_s = chance.uniform(0.2, 1.2) if kills < 10 else None
            assert process.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills > 2
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


@pytest.mark.slow
def test_a_kill_at_every_kind_of_step(begin, tmp_path):
    assert begin(tmp_path / "whole").wait() == 0
    events = {entry.event for entry in read_log(tmp_path / "whole" / "log.jsonl")}
    for event in sorted(events - {"run_finished"}):
        folder = tmp_path / event
        assert begin(folder, kill_at=event).wait() == -signal.SIGKILL
        assert begin(folder).wait() == 0
        assert files(folder) == files(tmp_path / "whole"), event


@pytest.mark.slow
def test_two_processes_do_not_work_on_one_run(begin, tmp_path):
    assert begin(tmp_path, kill_at="round_finished").wait() == -signal.SIGKILL
    log = (tmp_path / "log.jsonl").read_bytes()
    held = Checkpoints(tmp_path / "checkpoints")
    assert begin(tmp_path).wait() == 1
    assert (tmp_path / "log.jsonl").read_bytes() == log
    held.close()
    assert begin(tmp_path).wait() == 0
