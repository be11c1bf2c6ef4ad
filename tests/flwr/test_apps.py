"""Apps as users of Flower write them run as they are, under both commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

APPS = Path(__file__).parent / "apps"
NAMES = [
    "custom-strategy",
    "grid-by-hand",
    "message-fedavg",
    "mods-and-queries",
    "numpy-client",
    "private-message",
    "secagg-and-dp",
    "with-datasets",
]

pytestmark = pytest.mark.slow


def python(request: pytest.FixtureRequest, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout + done.stderr


def check(text: str) -> None:
    told = re.findall(r"(accuracy|labels) ([\d.]+)\s*$", text, re.MULTILINE)
    assert told
    name, value = told[-1]
    assert float(value) > 0.88 if name == "accuracy" else int(value) == 2 * 1438


def test_every_app_is_listed_here() -> None:
    # Those of `connected` are scripts for start_server and start_client: test_connected.py.
    assert sorted({folder.name for folder in APPS.iterdir()} - {"connected"}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_umbel_runs_it_with_the_same_bits_everywhere(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    answers = []
    for backend in ("processes", "inprocess"):
        command = ["run", str(APPS / name), "--seed", "7", "--json", "--backend", backend]
        text = python(request, tmp_path, "-m", "umbel.cli", *command)
        answers.append(json.loads(text[text.index("\n{") :] if text[0] != "{" else first(text)))
        check(text.partition("}\n")[2] or text)
    assert answers[0]["success"] is True
    assert answers[0]["failures"] == (4 if name == "mods-and-queries" else 0)
    assert answers[0].get("model_sha256") == answers[1].get("model_sha256")


def first(text: str) -> str:
    """Return the JSON object at the start of a text; the app's own prints follow on stderr."""
    _, end = json.JSONDecoder().raw_decode(text)
    return text[:end]


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_a_script(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    check(python(request, tmp_path, "-m", "umbel.flwr", str(APPS / name / "simulate.py")))


def test_a_script_that_is_not_there_is_told(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "umbel.flwr", "nothing.py"]
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "usage: python -m umbel.flwr SCRIPT.py" in done.stderr


def test_an_older_simulation_in_one_script(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    script = tmp_path / "old.py"
    script.write_text(
        "import sys, numpy as np, flwr as fl\n"
        "class AddOne(fl.client.NumPyClient):\n"
        "    def get_parameters(self, config):\n"
        "        return [np.zeros(3)]\n"
        "    def fit(self, parameters, config):\n"
        "        return [p + fl.common.Code.FIT_NOT_IMPLEMENTED for p in parameters], 1, {}\n"
        "    def evaluate(self, parameters, config):\n"
        "        return float(parameters[0][0]), 1, {}\n"
        "history = fl.simulation.start_simulation(\n"
        "    client_fn=lambda cid: AddOne().to_client(), num_clients=2,\n"
        "    config=fl.server.ServerConfig(num_rounds=2), ray_init_args={'num_cpus': 1},\n"
        ")\n"
        "print(sys.argv[1:], history.losses_distributed)\n"
    )
    text = python(request, tmp_path, "-m", "umbel.flwr", str(script), "an", "argument")
    assert "['an', 'argument'] [(1, 3.0), (2, 6.0)]" in text
