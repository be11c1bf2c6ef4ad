"""Whether the numbers that masked updates are written in are fine enough for them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from umbel.base import ConfigError
from umbel.secagg import FixedPoint
from umbel.updates import Arrays, NDArray, is_whole

_LOGGER = logging.getLogger("umbel.strategies")

_ERRORS_MIN = 100
"""A value of so many times what rounding can have moved it is right to a percent."""


def check_resolution(codec: FixedPoint, model: Arrays) -> None:
    """Raise ``ConfigError`` if no client could move the model by less than all that it is.

    How far updates go is not known before there are any; the model's values are the one measure.
    """
    sizes = {key: _largest(value) for key, value in _real(model).items()}
    known = {key: size for key, size in sizes.items() if size > 0}
    if known and all(codec.step(key) > size for key, size in known.items()):
        key = max(known, key=lambda key: known[key])
        raise ConfigError(
            f"clip={codec.bound(key):g} is too large: clients can move values by multiples of "
            f"{codec.step(key):.2g} at best, and none of the model is larger than {known[key]:.2g}",
            hint="clip is the largest value of an update: lower it, or take bits=64",
            key=key,
        )


def warn_if_coarse(model: Arrays, after: Arrays, errors: Mapping[str, float]) -> None:
    """Log a warning if rounding may have moved the mean by more than a percent of its update."""
    floats = _real(model)
    moved = {key: _largest(np.subtract(after[key], floats[key], dtype=float)) for key in floats}
    if not moved or any(size >= _ERRORS_MIN * errors[key] for key, size in moved.items()):
        return
    key = max(moved, key=lambda key: moved[key] / errors[key])
    _LOGGER.warning(
        "secure aggregation rounds by up to %.2g, and the largest value of the mean update is "
        "%.2g (array %r): lower clip or weight_max to what the clients' updates and weights are, "
        "or take bits=64",
        errors[key],
        moved[key],
        key,
    )


def _real(arrays: Arrays) -> dict[str, NDArray]:
    """Return the arrays that are no counters, which move by whole numbers whatever is learned."""
    return {key: value for key, value in arrays.items() if not is_whole(value.dtype)}


def _largest(values: NDArray) -> float:
    return float(np.max(np.abs(values), initial=0.0))
