"""The command line as a whole: help, version, start-up, wrong calls."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from umbel.cli import app


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("new", "run", "resume", "ls", "show", "plot"):
        assert f" {command} " in result.stdout


@pytest.mark.parametrize("command", ["new", "run", "ls", "show", "plot"])
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run", "--nodes", "0"],
        ["run", "--nodes", "many"],
        ["run", "--workers", "0"],
        ["run", "--seed", "-1"],
        ["run", "--seed", str(2**63)],
        ["run", "--backend", "threads"],
        ["run", "--no-such-option"],
        ["show"],
        ["new"],
    ],
)
def test_a_wrong_call_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.slow
def test_start_up_loads_nothing_heavy(request: pytest.FixtureRequest) -> None:
    code = (
        "import json, sys; import umbel.cli, umbel.cli.running; from rich import progress, table; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    modules = set(json.loads(out.stdout))
    heavy = {"matplotlib", "pandas", "sklearn", "torch", "jax", "ray"}
    assert "umbel.base" in modules
    assert not modules & heavy


@pytest.mark.slow
def test_as_a_module(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}
    command = [sys.executable, "-m", "umbel.cli", "ls", "--json"]
    out = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(out.stdout) == {"success": True, "runs": []}


def test_the_page_on_the_command_line_names_every_option(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs" / "cli.md").read_text(encoding="utf-8")
    sections = {text.split("\n", 1)[0]: text for text in page.split("\n## umbel ")}
    commands = ("new", "run", "resume", "ls", "show", "plot", "server", "node", "connect")
    for command in (
        *commands,
        "token create",
        "log",
        "stop",
        "rm",
        "pull",
        "verify",
        "conformance",
    ):
        text = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"}).stdout
        options = set(re.findall(r"--[a-z][a-z-]+", text)) - {"--help"}
        assert options == set(re.findall(r"^\| `(--[a-z-]+)`", sections[command], re.MULTILINE))
