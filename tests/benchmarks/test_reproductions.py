"""The quick forms of the reproductions run, and what they measure is so."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reproduce"

Quick = Callable[[str], Any]


@pytest.fixture
def quick(tmp_path: Path, request: pytest.FixtureRequest) -> Quick:
    """Return a function that runs a reproduction and returns its figures."""
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath / "src")}

    def measure(script: str) -> Any:
        path = tmp_path / "figures.json"
        command = [sys.executable, str(FOLDER / script), "--quick", "--json", str(path)]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
        assert out.returncode == 0, out.stderr
        return json.loads(path.read_text())

    return measure


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    return imported("claims")


@pytest.fixture(scope="module")
def poisoning() -> ModuleType:
    return imported("poisoning")


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"reproduce_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_algorithm_learns_and_ditto_is_better_at_home(quick: Quick) -> None:
    curves = quick("heterogeneity.py")["curves"]["0.1"]
    last = {name: found[0]["on_server"][-1] for name, found in curves.items()}
    assert len(last) == 9
    assert min(last.values()) > 0.3  # chance is 0.1
    at_home = {name: found[0]["at_clients"][-1] for name, found in curves.items()}
    assert at_home["Ditto"] > at_home["FedAvg"] + 0.1
    # The global model of Ditto is that of FedAvg, to the last bit.
    assert curves["Ditto"][0]["on_server"] == curves["FedAvg"][0]["on_server"]


@pytest.mark.slow
def test_defences_hold_where_the_mean_fails(quick: Quick) -> None:
    found = quick("attacks.py")["IID"]
    accuracy = {(one["attack"], one["defence"]): one["accuracy"] for one in found}
    for attack in ("sign flip", "scaling"):
        assert accuracy["", "FedAvg"] - accuracy[attack, "FedAvg"] > 20
        for defence in ("FedMedian", "MultiKrum", "CenteredClipping"):
            assert accuracy[attack, defence] > accuracy[attack, "FedAvg"] + 20


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.1, 2.0], "holds"),
        ([-1.0, 0.0], "does not hold"),
        ([1.0, -1.0, 1.0], "unclear: holds in 2 of 3 seeds"),
    ],
)
def test_a_verdict_asks_every_seed(claims: ModuleType, gains: list[float], verdict: str) -> None:
    assert claims.verdict(gains) == verdict


def test_sooner_counts_the_rounds_to_where_the_other_ends(claims: ModuleType) -> None:
    slow = claims.Curve([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5], [])
    fast = claims.Curve([0.1, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], [])
    assert claims.sooner(fast, slow) == 3
    assert claims.sooner(slow, fast) == 1 - 9  # it never gets there
    assert claims.more_accurate(fast, slow) == pytest.approx(10)


def test_collusion_is_what_the_papers_say(poisoning: ModuleType) -> None:
    honest = np.random.default_rng(1).normal(3, 2, (16, 5))
    own = np.zeros((4, 5))
    alie = poisoning.a_little_is_enough(honest, own, z=1.5)
    assert alie.shape == own.shape
    assert np.allclose((honest.mean(axis=0) - alie[0]) / honest.std(axis=0), 1.5)
    inner = poisoning.inner_product(honest, own, epsilon=0.5)
    assert inner[0] @ honest.mean(axis=0) < 0
    # The mean of all replies is the attackers' model, but for what the honest clients add.
    target = np.full((4, 5), 7.0)
    sent = poisoning.model_replacement(honest, target)
    assert np.allclose(np.vstack([0 * honest, sent]).mean(axis=0), 7)
    assert np.allclose(poisoning.sign_flip(honest, target, strength=4.0), -28)


def test_updates_survive_being_flattened(poisoning: ModuleType) -> None:
    model = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}
    again = poisoning.unflat(poisoning.flat(model), model)
    assert all(np.array_equal(again[key], model[key]) for key in model)
