"""What a ``pyproject.toml`` may say, and what the command line may change."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import AppProject, ConfigError, Setting

APP = """
[project]
name = "demo"
version = "1.2.0"

[tool.umbel.app.components]
serverapp = "demo.server_app:app"
clientapp = "demo.client_app:app"

[tool.umbel.app.config]
num-rounds = 3
learning-rate = 0.1
verbose = true
model = "mlp"
data.alpha = 0.5

[tool.umbel.app.config.data.noise]
level = 2
"""


def write(folder: Path, text: str = APP) -> Path:
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, text: str = APP) -> AppProject:
    return AppProject.read(write(folder, text))


def test_reads_an_app(tmp_path: Path) -> None:
    project = read(tmp_path)
    assert (project.name, project.version, project.root) == ("demo", "1.2.0", tmp_path)
    assert project.components == {
        "serverapp": "demo.server_app:app",
        "clientapp": "demo.client_app:app",
    }
    assert project.run_config == {
        "num-rounds": 3,
        "learning-rate": 0.1,
        "verbose": True,
        "model": "mlp",
        "data.alpha": 0.5,
        "data.noise.level": 2,
    }
    assert project.config["model"] == Setting("mlp", "pyproject.toml [tool.umbel.app.config]")


def test_simulation_defaults(tmp_path: Path) -> None:
    assert read(tmp_path).simulation.nodes == 10
    text = APP + (
        "\n[tool.umbel.simulation]\nnodes = 40\nbackend = 'inprocess'\n"
        "client-resources.num-cpus = 2\nclient-resources.num-gpus = 0.5\n"
    )
    simulation = read(tmp_path, text).simulation
    assert (simulation.nodes, simulation.backend) == (40, "inprocess")
    assert simulation.client_resources == {"num_cpus": 2, "num_gpus": 0.5}


def test_reads_an_app_written_for_flower(tmp_path: Path) -> None:
    text = APP.replace("tool.umbel.app", "tool.flwr.app") + "\n[tool.flwr.app]\npublisher = 'me'\n"
    project = read(tmp_path, text)
    assert project.components["clientapp"] == "demo.client_app:app"
    assert project.config["num-rounds"] == Setting(3, "pyproject.toml [tool.flwr.app.config]")


def test_umbels_own_table_wins(tmp_path: Path) -> None:
    text = APP.replace("tool.umbel.app", "tool.flwr.app") + (
        '\n[tool.umbel.app.components]\nclientapp = "demo.mine:app"\n'
        "[tool.umbel.app.config]\nnum-rounds = 9\n"
    )
    project = read(tmp_path, text)
    assert project.components == {
        "serverapp": "demo.server_app:app",
        "clientapp": "demo.mine:app",
    }
    assert project.run_config["num-rounds"] == 9
    assert project.run_config["model"] == "mlp"
    assert "umbel" in project.config["num-rounds"].origin
    assert "flwr" in project.config["model"].origin


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[project", "not a TOML file"),
        ("[project]\nversion = '1'", "has no name"),
        ("[project]\nname = 'x'", "names no serverapp"),
        ("project = 3", "must be a table"),
        (APP.replace('"demo.server_app:app"', '"demo.server_app"'), "does not name an object"),
        (APP.replace('"demo.server_app:app"', "3"), "does not name an object"),
        (APP.replace("serverapp", "server-app"), "did you mean serverapp"),
        (APP.replace("tool.umbel.app.config", "tool.umbel.app.confg"), "did you mean config"),
        (APP.replace('"mlp"', "[1, 2]"), "is of type list"),
        (APP.replace('"mlp"', "1979-05-27"), "is of type date"),
        (APP.replace("data.alpha", '"data.noise.level"'), "twice"),
        (APP + "[tool.umbel.simulation]\nnodes = 0", "1 or more"),
        (APP + "[tool.umbel.simulation]\nnodes = true", "1 or more"),
        (APP + "[tool.umbel.simulation]\nbackend = 'threads'", "processes"),
        (APP + "[tool.umbel.simulation]\nnode = 3", "did you mean nodes"),
        (APP + "[tool.umbel.simulation]\nclient-resources = 3", "must be a table"),
        (APP + "[tool.umbel.simulation]\nclient-resources.num-cpu = 3", "did you mean num-cpus"),
        (APP + "[tool.umbel.simulation]\nclient-resources.num-gpus = -1", "0 or more"),
    ],
)
def test_each_mistake_has_its_own_error(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read(tmp_path, text)
    assert caught.value.hint
    assert caught.value.context["file"] == tmp_path / "pyproject.toml"


def test_a_folder_without_pyproject(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="umbel new"):
        AppProject.read(tmp_path)


def test_overrides_keep_the_type(tmp_path: Path) -> None:
    project = read(tmp_path).with_overrides(
        ["num-rounds=5", "learning-rate=1", "verbose=False", "model=a=b", "data.noise.level=-1"]
    )
    assert project.run_config == {
        "num-rounds": 5,
        "learning-rate": 1.0,
        "verbose": False,
        "model": "a=b",
        "data.alpha": 0.5,
        "data.noise.level": -1,
    }
    assert type(project.run_config["learning-rate"]) is float
    assert project.config["num-rounds"].origin == "command line: num-rounds=5"
    assert "pyproject" in project.config["data.alpha"].origin


@pytest.mark.parametrize(
    ("override", "says", "key", "expected"),
    [
        ("num-rounds=1.5", "must be an integer", "num-rounds", "int"),
        ("num-rounds=true", "must be an integer", "num-rounds", "int"),
        ("learning-rate=fast", "must be a number", "learning-rate", "float"),
        ("verbose=1", "must be true or false", "verbose", "bool"),
    ],
)
def test_an_override_of_another_type(
    tmp_path: Path, override: str, says: str, key: str, expected: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read(tmp_path).with_overrides([override])
    assert caught.value.context == {
        "key": key,
        "file": tmp_path / "pyproject.toml",
        "expected": expected,
    }


def test_an_override_of_an_unknown_key(tmp_path: Path) -> None:
    project = read(tmp_path)
    with pytest.raises(ConfigError, match="did you mean learning-rate") as caught:
        project.with_overrides(["learning_rate=0.2"])
    assert caught.value.context["key"] == "learning_rate"
    with pytest.raises(ConfigError, match="known: num-rounds, learning-rate"):
        project.with_overrides(["zzz=0.2"])
    with pytest.raises(ConfigError, match="key=value"):
        project.with_overrides(["num-rounds"])


@given(value=st.floats(allow_nan=False) | st.integers())
def test_any_number_survives_as_a_float(value: float) -> None:
    project = AppProject("demo", "1", Path(), {}, {"lr": Setting(0.5, "file")})
    assert project.with_overrides([f"lr={value!r}"]).run_config == {"lr": float(value)}


@given(text=st.text())
def test_any_override_is_taken_or_refused_with_a_config_error(text: str) -> None:
    project = AppProject("demo", "1", Path(), {}, {"lr": Setting(1, "file")})
    try:
        changed = project.with_overrides([text, f"lr={text}"])
    except ConfigError:
        return
    assert type(changed.run_config["lr"]) is int
