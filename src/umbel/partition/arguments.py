"""Checks of what all schemes are given, and the random streams they draw from."""

from __future__ import annotations

import operator
from collections.abc import Collection, Sized
from typing import SupportsIndex

import numpy as np

from umbel.base import ConfigError, PartitionError, Seeds


def checked_count(name: str, value: SupportsIndex, minimum: int = 1) -> int:
    """Return ``value`` as an int, or raise ``PartitionError`` when it is none or is too small."""
    if isinstance(value, bool | np.bool_):
        raise PartitionError(f"{name} must be a whole number, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise PartitionError(f"{name} must be a whole number, got {value!r}") from None
    if number < minimum:
        raise PartitionError(f"{name} must be at least {minimum}, got {number}")
    return number


def checked_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Return ``value``, or raise ``PartitionError`` when it is none of ``choices``."""
    if value not in choices:
        raise PartitionError(f"unknown {name} {value!r}", hint=f"one of {', '.join(choices)}")
    return value


def sample_count(samples: int | Sized) -> int:
    """Return how many samples there are: the number given, or the length of what was given."""
    if isinstance(samples, int | np.integer):
        return checked_count("samples", samples)
    try:
        number = len(samples)
    except TypeError:
        raise PartitionError(
            f"samples must be a number or have a length, got {type(samples).__name__}",
            hint="pass the number of samples, the labels, or the data set",
        ) from None
    return checked_count("the number of samples", number)


def partition_count(num_partitions: SupportsIndex, num_samples: int) -> int:
    """Return ``num_partitions`` as an int that leaves at least one sample to each client."""
    number = checked_count("num_partitions", num_partitions)
    if number > num_samples:
        raise PartitionError(
            f"{number} partitions were asked for, but there are only {num_samples} samples",
            hint="lower num_partitions",
        )
    return number


def stream(seed: int, scheme: str, purpose: str) -> np.random.Generator:
    """Return the generator of one purpose of one scheme.

    What a client gets is drawn apart from the order of samples, so that ``shuffle`` does not
    change the label counts of any client.
    """
    try:
        seeds = Seeds(operator.index(seed))
    except (TypeError, ConfigError):
        raise PartitionError(f"seed must be a whole number in [0, 2**63), got {seed!r}") from None
    return seeds.child("partition", scheme, purpose).numpy()


def order_stream(seed: int, scheme: str, shuffle: bool) -> np.random.Generator | None:
    """Return the generator that orders samples; ``None`` to keep the data set's order."""
    rng = stream(seed, scheme, "order")
    return rng if shuffle else None
