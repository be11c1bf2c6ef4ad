"""Patterns of array names: which arrays of a model a rule is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from umbel.base import ConfigError
from umbel.updates.arrays import Arrays, NDArray, is_whole

BATCH_STATISTICS = (
    "*running_mean",
    "*running_var",
    "*num_batches_tracked",
    "*moving_mean",
    "*moving_variance",
    "batch_stats/*",
)
"""What PyTorch, Keras and Flax call the statistics of batch normalisation."""


def checked_patterns(patterns: object, name: str) -> tuple[str, ...]:
    """Return the patterns, or raise ``ConfigError`` with the name of the argument.

    A lone text is refused: its letters would be the patterns, and a ``*`` among them matches all.
    """
    if isinstance(patterns, Iterable) and not isinstance(patterns, str | bytes | Mapping):
        checked = tuple(patterns)
        if all(isinstance(pattern, str) for pattern in checked):
            return checked
    raise ConfigError(
        f"{name}={patterns!r} is no list of patterns", hint=f'write {name}=["head.*"]'
    )


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether an array's name matches one of the patterns, as file names do in a shell.

    Examples
    --------
    >>> matches("head.weight", ["head.*"]), matches("body.weight", ["head.*"])
    (True, False)
    """
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def trainable(arrays: Arrays, but: Iterable[str] = BATCH_STATISTICS) -> dict[str, NDArray]:
    """Return the arrays that gradients move: no whole numbers, and none whose name is in ``but``.

    Examples
    --------
    >>> import numpy as np
    >>> list(trainable({"w": np.ones(2), "bn.running_mean": np.ones(2), "step": np.array(3)}))
    ['w']
    """
    patterns = tuple(but)
    return {
        name: value
        for name, value in arrays.items()
        if not is_whole(value.dtype) and not matches(name, patterns)
    }
