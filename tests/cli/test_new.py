"""``umbel new`` makes an app from a template, and never writes over anything."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from umbel.base import AppProject
from umbel.cli import app

TEMPLATES = ["numpy", "sklearn", "pytorch", "jax"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_makes_an_app_that_umbel_can_read(tmp_path: Path, template: str) -> None:
    folder = tmp_path / "My-Digits"
    result = CliRunner().invoke(app, ["new", str(folder), "--template", template])
    assert result.exit_code == 0, result.output
    assert f"umbel run {folder}" in result.stdout
    project = AppProject.read(folder)
    assert project.name == "My-Digits"
    assert project.components == {
        "serverapp": "my_digits.server_app:app",
        "clientapp": "my_digits.client_app:app",
    }
    assert project.run_config["num-rounds"] == 10
    written = [file for file in folder.rglob("*") if file.is_file()]
    assert not any("app_package" in f"{file} {file.read_text()}" for file in written)
    code = [file.read_text() for file in written if file.suffix == ".py"]
    assert len(code) == 4
    assert sum(len(text.splitlines()) for text in code) <= 125
    assert all(ast.parse(text) for text in code)


@pytest.mark.slow
def test_a_new_app_has_data_for_as_many_clients_as_the_readme_has(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (request.config.rootpath / "README.md").read_text()
    new, run = re.findall(r"^umbel (new my-app .*|run my-app --nodes .*)$", readme, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for command in (new, f"{run} -c num-rounds=1 --json"):
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["failures"] == 0


def test_numpy_is_the_default(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["new", str(tmp_path / "app")])
    assert result.exit_code == 0
    assert "plain NumPy" in (tmp_path / "app" / "README.md").read_text()


@pytest.mark.parametrize(
    ("template", "missing", "extras"),
    [
        ("pytorch", ["torch"], "torch"),
        ("jax", ["jax", "sklearn"], "jax,sklearn"),
        ("numpy", ["sklearn"], "sklearn"),
    ],
)
def test_says_what_to_install(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    template: str,
    missing: list[str],
    extras: str,
) -> None:
    whole = CliRunner().invoke(app, ["new", str(tmp_path / "whole"), "-t", template])
    assert "pip install" not in whole.stdout
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    result = CliRunner().invoke(app, ["new", str(tmp_path / "app"), "-t", template])
    assert result.exit_code == 0
    assert f'pip install "umbel[{extras}]"' in result.stdout
    wanted = AppProject.read(tmp_path / "app").root / "pyproject.toml"
    assert set(extras.split(",")) <= set(re.findall(r"\w+", wanted.read_text()))


def test_an_empty_folder_is_filled_and_another_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    assert CliRunner().invoke(app, ["new", str(folder)]).exit_code == 0
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(app, ["new", str(folder), "-t", "jax"])
    assert result.exit_code == 2
    assert "is not an empty folder" in result.stderr
    assert sorted(folder.rglob("*")) == before
    result = CliRunner().invoke(app, ["new", str(folder / "pyproject.toml")])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("1st", "cannot name a Python package"),
        ("class", "cannot name a Python package"),
        ("numpy", "would hide the module 'numpy'"),
        ("json", "would hide the module 'json'"),
    ],
)
def test_a_name_that_no_package_can_have(tmp_path: Path, name: str, says: str) -> None:
    result = CliRunner().invoke(app, ["new", str(tmp_path / name)])
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert not (tmp_path / name).exists()


def test_an_unknown_template(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["new", str(tmp_path / "a"), "--template", "fortran"])
    assert result.exit_code == 2
    assert "numpy" in result.stderr
