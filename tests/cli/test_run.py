"""``umbel run``: exit status, what is printed where, what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from umbel.cli import app
from umbel.serverapp import read_log

PROJECT = """
[project]
name = "tiny"

[tool.umbel.app.components]
serverapp = "{module}:server_app"
clientapp = "{module}:client_app"

[tool.umbel.app.config]
num-rounds = 2
fail-node = -1
killed-node = -1
server-fails = false
talk = false
hang = false

[tool.umbel.simulation]
nodes = 4
backend = "inprocess"
"""

APP = """
import os
import signal
import time

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import ServerApp
from umbel.strategies import FedAvg

client_app, server_app = ClientApp(), ServerApp()


@client_app.train()
def train(message, context):
    if context.run_config["talk"]:
        print("the client talks")
        os.system("echo a child of the client talks")
    if context.run_config["hang"]:
        print("hanging", flush=True)
        time.sleep(60)
    if context.node_config["partition-id"] == context.run_config["fail-node"]:
        raise ValueError("no [data]")
    if context.node_config["partition-id"] == context.run_config["killed-node"]:
        os.kill(os.getpid(), signal.SIGKILL)
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    content = RecordDict({
        "arrays": ArrayRecord([weights + np.random.normal(size=3)]),
        "metrics": MetricRecord({"loss": float(np.random.random()), "num-examples": 1}),
    })
    return Message(content, reply_to=message)


@server_app.main()
def main(grid, context):
    if context.run_config["talk"]:
        print("the server talks")
    result = FedAvg(fraction_evaluate=0.0).start(
        grid,
        ArrayRecord([np.zeros(3)]),
        num_rounds=context.run_config["num-rounds"],
        evaluate_fn=lambda number, arrays: MetricRecord({"accuracy": number / 10}),
    )
    if context.run_config["server-fails"]:
        raise RuntimeError("the server app broke")
    return result
"""

Umbel = Callable[..., Result]


@pytest.fixture
def tiny(write_app: Callable[[str, str, str], Path]) -> Path:
    """Make a small app."""
    return write_app("tiny", APP, PROJECT)


@pytest.fixture
def umbel(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Umbel:
    """Return a function that runs ``umbel run tiny`` in this process."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        command = ["run", str(tiny), "--seed", "7", *arguments]
        return CliRunner().invoke(app, command, env={"COLUMNS": "120"})

    return invoke


def answer_of(result: Result) -> dict[str, Any]:
    """Return the one JSON object on stdout."""
    (line,) = result.stdout.splitlines()
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer


def test_a_run_that_succeeds(umbel: Umbel, tmp_path: Path) -> None:
    result = umbel()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "initial model  accuracy 0"
    assert lines[1].startswith("round 1/2 | train loss 0.")
    assert "server accuracy 0.1" in lines[1]
    assert "succeeded" in lines[3]
    assert "2 rounds, 0 failures, seed 7" in lines[3]
    (folder,) = (tmp_path / "runs").iterdir()
    assert {file.name for file in folder.iterdir()} == {
        "log.jsonl",
        "metrics.jsonl",
        "model.safetensors",
    }
    assert f"umbel show {folder.name}" in lines[-1]
    shown = CliRunner().invoke(app, ["show", "latest"])
    assert shown.exit_code == 0
    assert "whole" in shown.stdout


def test_json_is_alone_on_stdout(umbel: Umbel) -> None:
    result = umbel("--json", "-c", "num-rounds=3", "--nodes", "6")
    assert result.exit_code == 0
    answer = answer_of(result)
    assert answer["success"] is True
    assert answer["status"] == "succeeded"
    assert (answer["seed"], answer["backend"], answer["nodes"]) == (7, "inprocess", 6)
    assert answer["rounds"] == 3
    assert len(answer["model_sha256"]) == 64
    assert answer["metrics"]["server"] == {"accuracy": 0.3}
    assert answer["failures"] == 0
    assert Path(answer["run_dir"]).name == answer["run-id"]
    assert "round 3/3" in result.stderr


def test_a_seed_repeats_a_run(umbel: Umbel) -> None:
    first, second = (answer_of(umbel("--json")) for _ in range(2))
    other = answer_of(umbel("--json", "--seed", "8"))
    assert first["model_sha256"] == second["model_sha256"] != other["model_sha256"]


def test_quiet_prints_nothing(umbel: Umbel) -> None:
    result = umbel("--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_a_client_that_fails_is_told_and_the_run_goes_on(umbel: Umbel) -> None:
    result = umbel("-c", "fail-node=2")
    assert result.exit_code == 0
    told = [line for line in result.stdout.splitlines() if "ValueError: no [data]" in line]
    assert len(told) == 2
    assert told[0].startswith("round 1 train: node ")
    assert "2 failures" in result.stdout


def test_a_server_app_that_fails(umbel: Umbel) -> None:
    result = umbel("--json", "-c", "server-fails=true")
    assert result.exit_code == 1
    answer = answer_of(result)
    assert answer["success"] is False
    assert answer["status"] == "failed"
    assert answer["error-code"] == "RuntimeError"
    assert "the server app broke" in answer["error-message"]
    assert answer["rounds"] == 2
    assert "in main: raise RuntimeError" in result.stderr
    assert "Traceback" not in result.stderr
    assert f"umbel show {answer['run-id']}" in result.stderr
    shown = CliRunner().invoke(app, ["show", "latest"]).stdout
    assert "Traceback (most recent call last)" in shown


def test_the_app_goes_by_the_name_of_its_project(umbel: Umbel) -> None:
    assert answer_of(umbel("--json"))["app"] == "tiny"
    assert re.search(r"^app +tiny *$", CliRunner().invoke(app, ["show", "latest"]).stdout, re.M)
    assert " tiny " in CliRunner().invoke(app, ["ls"]).stdout


def test_show_tells_where_a_client_failed(umbel: Umbel) -> None:
    assert umbel("-c", "fail-node=1").exit_code == 0
    shown = CliRunner().invoke(app, ["show", "latest"]).stdout
    assert "The first of these, on node 1:" in shown
    assert 'raise ValueError("no [data]")' in shown


def test_too_few_replies_fail_the_run(umbel: Umbel) -> None:
    result = umbel("--json", "--nodes", "2", "-c", "fail-node=0", "-c", "talk=false")
    assert result.exit_code == 0
    result = umbel("--json", "--nodes", "1")
    assert result.exit_code == 1
    assert answer_of(result)["error-code"] == "U201"


def test_a_setting_that_the_app_does_not_have(umbel: Umbel, tmp_path: Path) -> None:
    result = umbel("--json", "-c", "num-round=3")
    assert result.exit_code == 2
    answer = answer_of(result)
    assert answer["error-code"] == "U101"
    assert answer["hint"] == "did you mean num-rounds?"
    assert "status" not in answer
    assert "did you mean num-rounds?" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_is_no_app(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", str(tmp_path)])
    assert result.exit_code == 2
    assert "no pyproject.toml" in result.stderr


def test_an_app_that_cannot_be_imported(umbel: Umbel, tiny: Path) -> None:
    project = tiny / "pyproject.toml"
    project.write_text(project.read_text().replace(":server_app", ":sever_app"))
    result = umbel("--json")
    assert result.exit_code == 2
    assert answer_of(result)["error-code"] == "U102"


def test_an_app_that_raises_on_import_shows_its_line(umbel: Umbel, tiny: Path) -> None:
    (module,) = tiny.glob("*.py")
    module.write_text("import umbel\nraise OSError('no licence')\n")
    result = umbel()
    assert result.exit_code == 2
    assert "no licence" in result.stderr
    assert f"{module.name}:2 in <module>" in result.stderr


def start(tiny: Path, root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start ``umbel run`` as its own process, as a shell would."""
    command = [sys.executable, "-m", "umbel.cli", "run", str(tiny), "--seed", "7", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    return subprocess.Popen(
        command,
        cwd=tiny.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_what_workers_print_stays_off_stdout(tiny: Path, request: pytest.FixtureRequest) -> None:
    process = start(
        tiny, request.config.rootpath, "--json", "--backend", "processes", "-c", "talk=true"
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["success"] is True
    for line in ("the server talks", "the client talks", "a child of the client talks"):
        assert line in err


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_clients_reply(
    tiny: Path, request: pytest.FixtureRequest
) -> None:
    options = ["--json", "--backend", "processes", "-c", "killed-node=1", "-c", "num-rounds=1"]
    process = start(tiny, request.config.rootpath, *options)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    answer = json.loads(out)
    assert (answer["status"], answer["failures"]) == ("succeeded", 1)
    assert re.search(r"^round 1 train: node \d+ failed: SIGKILL: ", err, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "number", "status"),
    [
        ("inprocess", signal.SIGINT, 130),
        ("inprocess", signal.SIGTERM, 143),
        ("processes", signal.SIGINT, 130),
        ("processes", signal.SIGTERM, 143),
        ("ray", signal.SIGTERM, 143),
    ],
)
def test_an_interrupted_run_says_so_and_leaves_no_process(
    tiny: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    backend: str,
    number: signal.Signals,
    status: int,
) -> None:
    if backend == "ray":
        pytest.importorskip("ray")
    process = start(
        tiny, request.config.rootpath, "--json", "--backend", backend, "-c", "hang=true"
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "hanging" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    _, alive = psutil.wait_procs(children, timeout=3)
    assert alive == []
    answer = json.loads(out)
    assert answer["success"] is False
    assert answer["status"] == "interrupted"
    assert answer["error-code"] == "interrupted"
    assert "Traceback" not in err
    *_, last = read_log(tmp_path / answer["run_dir"] / "log.jsonl")
    assert (last.event, last.data["status"]) == ("run_failed", "interrupted")
