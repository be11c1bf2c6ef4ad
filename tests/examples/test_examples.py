"""Every example and every template of ``umbel new`` runs, learns, and can be repeated."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umbel.base import AppProject

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [
    "mixed-federation",
    "private-pytorch",
    "quickstart-numpy",
    "quickstart-pytorch",
    "quickstart-sklearn",
    "quickstart-xgboost",
]
TEMPLATES = ["numpy", "sklearn", "pytorch", "jax"]

Umbel = Callable[..., str]


@pytest.fixture
def umbel(tmp_path: Path, request: pytest.FixtureRequest) -> Umbel:
    """Return a function that runs the command in a process of its own, away from the sources."""
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}

    def invoke(*arguments: str) -> str:
        command = [sys.executable, "-m", "umbel.cli", *arguments]
        out = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110
        )
        assert out.returncode == 0, out.stderr
        return out.stdout

    return invoke


def run(umbel: Umbel, app: str | Path, *arguments: str) -> dict[str, Any]:
    answer = json.loads(umbel("run", str(app), "--seed", "7", "--json", *arguments))
    assert answer["success"] is True
    assert answer["failures"] == 0
    assert isinstance(answer, dict)
    return answer


def test_every_example_is_listed_here() -> None:
    apps = {file.parent.name for file in EXAMPLES.glob("*/pyproject.toml")}
    policies = {file.parent.name for file in EXAMPLES.glob("*/*.toml")} - apps
    assert sorted(apps) == NAMES
    assert {folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()} == apps | policies
    assert policies == {"policies"}


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_names_files_and_settings_that_exist(name: str) -> None:
    folder = EXAMPLES / name
    text = (folder / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (folder / link).is_file(), link
    commands = re.findall(r"^\.venv/bin/umbel run examples/\S+ (.*)$", text, re.MULTILINE)
    assert commands
    project = AppProject.read(folder)
    for command in commands:
        words = shlex.split(command, comments=True)
        overrides = [words[at + 1] for at, word in enumerate(words) if word == "-c"]
        assert project.with_overrides(overrides).run_config.keys() == project.run_config.keys()


@pytest.mark.slow
def test_quickstart_numpy_passes_092_with_the_same_bits_everywhere(umbel: Umbel) -> None:
    example = EXAMPLES / "quickstart-numpy"
    one = run(umbel, example)
    assert one["metrics"]["server"]["accuracy"] > 0.92
    assert one["rounds"] == 10
    other = run(umbel, example, "--backend", "inprocess")
    assert other["model_sha256"] == one["model_sha256"]
    other = run(umbel, example, "--workers", "1")
    assert other["model_sha256"] == one["model_sha256"]


@pytest.mark.slow
def test_private_pytorch_learns_within_its_budget_and_ends_at_it(umbel: Umbel) -> None:
    example = EXAMPLES / "private-pytorch"
    one = run(umbel, example)
    assert one["metrics"]["server"]["accuracy"] > 0.8
    assert 7 < one["privacy"]["epsilon"] <= 8
    assert one["privacy"]["unit"] == "record"
    less = run(umbel, example, "-c", "epsilon-budget=5.0")
    assert less["rounds"] < one["rounds"]
    assert less["privacy"]["epsilon"] <= 5


@pytest.mark.slow
def test_quickstart_pytorch_learns_digits_with_the_same_bits_everywhere(umbel: Umbel) -> None:
    example, digits = EXAMPLES / "quickstart-pytorch", ("-c", "data-dir=")
    one = run(umbel, example, *digits)
    assert one["metrics"]["server"]["accuracy"] > 0.85
    other = run(umbel, example, "--backend", "inprocess", *digits)
    assert other["model_sha256"] == one["model_sha256"]


@pytest.mark.slow
def test_quickstart_pytorch_learns_fashion_mnist(umbel: Umbel) -> None:
    folder = AppProject.read(EXAMPLES / "quickstart-pytorch").run_config["data-dir"]
    if not Path(str(folder)).is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    answer = run(umbel, EXAMPLES / "quickstart-pytorch", "-c", "num-rounds=3")
    assert answer["metrics"]["server"]["accuracy"] > 0.6


@pytest.mark.slow
def test_quickstart_sklearn_passes_095(umbel: Umbel) -> None:
    answer = run(umbel, EXAMPLES / "quickstart-sklearn")
    assert answer["metrics"]["server"]["accuracy"] > 0.95


@pytest.mark.slow
def test_quickstart_xgboost_passes_095_with_the_same_bits_everywhere(umbel: Umbel) -> None:
    example = EXAMPLES / "quickstart-xgboost"
    one = run(umbel, example)
    assert one["metrics"]["server"]["accuracy"] > 0.95
    other = run(umbel, example, "--backend", "inprocess")
    assert other["model_sha256"] == one["model_sha256"]
    cyclic = run(umbel, example, "-c", "strategy=cyclic", "--workers", "1")
    assert cyclic["metrics"]["server"]["accuracy"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_app_learns(umbel: Umbel, template: str) -> None:
    umbel("new", "my-app", "--template", template)
    answer = run(umbel, "my-app")
    assert answer["metrics"]["server"]["accuracy"] > 0.9
    assert answer["metrics"]["evaluate"]["accuracy"] > 0.9
