"""The audit's bound is a bound, its quick form stays below the claim, and noise costs accuracy."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS / "reproduce"))
    try:
        spec = importlib.util.spec_from_file_location("audit", BENCHMARKS / "privacy_audit.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def quick(script: str, folder: Path, root: Path) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    out = folder / "figures.json"
    command = [sys.executable, str(BENCHMARKS / script), "--quick", "--json", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.slow
def test_the_lower_bound_stays_below_the_claim(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    found = quick("privacy_audit.py", tmp_path, pytestconfig.rootpath)["canaries"]
    assert found["0"]["at_least"] > 3  # without noise the audit sees that
    assert 0.5 < found["4"]["at_least"] < found["4"]["claimed"] < 4


@pytest.mark.slow
def test_noise_costs_accuracy(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    private, bare = quick("reproduce/privacy.py", tmp_path, pytestconfig.rootpath)
    assert 0.3 < private["accuracy"] <= bare["accuracy"] + 0.02


def test_guesses_at_random_prove_nothing(audit: ModuleType) -> None:
    assert audit.epsilon_at_least(1000, 100, 50, 1e-5, 0.95) == 0
    assert audit.epsilon_at_least(1000, 100, 100, 1e-5, 0.95) > 3
    # A large delta explains all that there is.
    assert audit.epsilon_at_least(1000, 100, 100, 0.1, 0.95) == 0


def test_randomised_response_is_rarely_proven_to_cost_more_than_it_does(audit: ModuleType) -> None:
    epsilon, rng = 1.0, np.random.default_rng(1)
    right = rng.binomial(400, expit(epsilon), 300)
    proven = np.array([audit.epsilon_at_least(400, 400, int(r), 0.0, 0.95) for r in right])
    assert (proven > epsilon).mean() < 0.08
    assert np.median(proven) > 0.7


def test_the_area_under_the_curve_counts_pairs(audit: ModuleType) -> None:
    assert audit.area_under_curve(np.array([1.0, 2.0]), np.array([3.0, 2.0])) == 0.875
