"""``kill -9`` of a private run: it goes on to the same model, and spends nothing twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import umbel
from umbel.serverapp import read_log

PROGRAM = """
import os
import signal
import sys
from pathlib import Path

import numpy as np

from umbel import ClientApp, ServerApp, run_simulation
from umbel.records import ArrayRecord, MetricRecord, Message, RecordDict
from umbel.serverapp import PoissonSampler
from umbel.strategies import FedAdam, with_central_dp

client_app, server_app = ClientApp(), ServerApp()


@client_app.train()
def train(message, context):
    arrays = {"w": message.content["arrays"]["w"].numpy() + np.random.standard_normal(2000)}
    content = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)


@server_app.main()
def main(grid, context):
    strategy = with_central_dp(
        FedAdam(train_sampler=PoissonSampler(0.5), fraction_evaluate=0),
        noise_multiplier=1.0, clipping=1.0, cohort=3, delta=1e-5, epsilon_budget=11.0,
        accountant="rdp")
    return strategy.start(grid, ArrayRecord({"w": np.zeros(2000)}), num_rounds=20)


def watch(event):
    if event.name == sys.argv[2] and event.data["round"] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)


folder = Path(sys.argv[1])
run_simulation(
    server_app, client_app, 6, "inprocess", seed=7, run_dir=folder, observers=[watch],
    resumable=True, resume=(folder / "log.jsonl").exists(),
)
"""


@pytest.fixture
def begin(tmp_path):
    """Return a function that runs the program in a folder, and returns its exit status."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def start(folder, kill_at="-", number=0):
        source = str(Path(umbel.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": source}
        command = [sys.executable, program, folder, kill_at, str(number)]
        return subprocess.call(command, env=environment)

    return start


def told(folder):
    """Return what the run spent, by round, and all that it came to."""
    entries = list(read_log(folder / "log.jsonl"))
    spent = [(e.data["round"], e.data["key"]) for e in entries if e.event == "privacy_spent"]
    epsilons = [e.data["epsilon"] for e in entries if e.event == "privacy_spent"]
    ended = [e.data["round"] for e in entries if e.event == "privacy_budget_exhausted"]
    return spent, epsilons, ended[-1:]


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_round(begin, tmp_path):
    assert begin(tmp_path / "whole") == 0
    spent, epsilons, ended = told(tmp_path / "whole")
    assert [number for number, _ in spent] == list(range(1, len(spent) + 1))
    assert 4 < len(spent) < 20
    assert ended == [len(spent) + 1]
    assert max(epsilons) == epsilons[-1] <= 11.0
    model = (tmp_path / "whole" / "model.safetensors").read_bytes()
    steps = [(event, 3) for event in ("round_started", "privacy_spent", "round_finished")]
    # The last round that the budget allows: it is paid for, and may be done again.
    steps += [("round_finished", len(spent)), ("privacy_budget_exhausted", len(spent) + 1)]
    for event, number in steps:
        folder = tmp_path / f"{event}-{number}"
        assert begin(folder, event, number) == -signal.SIGKILL
        assert begin(folder) == 0
        assert (folder / "model.safetensors").read_bytes() == model
        assert told(folder) == (spent, epsilons, ended)
