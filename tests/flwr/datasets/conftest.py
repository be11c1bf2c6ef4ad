"""One table as each kind of data set, and what the rows of any kind are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

KINDS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "arrays": dict,
    "frame": pd.DataFrame,
    "dataset": lambda columns: datasets.Dataset.from_dict(dict(columns)),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[[Mapping[str, Any]], Any]:
    """Return what makes a data set of one kind from columns."""
    return KINDS[request.param]


@pytest.fixture(scope="session")
def columns() -> dict[str, Any]:
    """Return 120 samples: a number, a label, a person, and a value."""
    rng = np.random.default_rng(0)
    return {
        "i": np.arange(120),
        "label": rng.permutation(np.arange(120) % 6),
        "who": [f"person {k}" for k in rng.integers(0, 9, 120)],
        "value": rng.random(120),
    }


@pytest.fixture
def values() -> Callable[[Any, str], list[Any]]:
    """Return what reads a column of any kind as a list."""
    return lambda data, name: list(np.asarray(data[name][:]).tolist())
