"""Where the process-wide generators of chance stand, so that a run can go on from there."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def random_state() -> dict[str, NDArray[Any]]:
    """Return the state of ``random``, of ``numpy.random``, and of torch if it is loaded.

    Examples
    --------
    >>> before = random_state()
    >>> first = random.random(), np.random.random()
    >>> set_random_state(before)
    >>> first == (random.random(), np.random.random())
    True
    """
    _, words, gauss = random.getstate()
    _, keys, place, has_gauss, cached = np.random.get_state()
    state: dict[str, NDArray[Any]] = {
        "python": np.array(words, np.uint32),
        "python-gauss": np.array([] if gauss is None else [gauss], np.float64),
        "numpy": np.array(keys, np.uint32),
        "numpy-place": np.array([place, has_gauss], np.int64),
        "numpy-gauss": np.array([cached], np.float64),
    }
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        state["torch"] = torch.get_rng_state().numpy()
    return state


def set_random_state(state: Mapping[str, NDArray[Any]]) -> None:
    """Put the generators where ``random_state`` found them."""
    gauss = state["python-gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
    place, has_gauss = state["numpy-place"].tolist()
    cached = float(state["numpy-gauss"][0])
    np.random.set_state(("MT19937", np.array(state["numpy"]), place, has_gauss, cached))
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.set_rng_state(torch.from_numpy(np.array(state["torch"])))
