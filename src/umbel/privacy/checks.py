"""Checks of numbers that privacy rests on: NaN passes every comparison, so each is asked for."""

from __future__ import annotations

import operator
from typing import SupportsIndex

from umbel.base import ConfigError, is_number, is_whole_number


def positive(value: float, name: str) -> float:
    """Return a finite number above zero as a float, or raise ``ConfigError`` with its name."""
    if not is_number(value) or value <= 0:
        raise ConfigError(
            f"{name} is a finite number above zero, got {value!r}",
            hint="NaN, infinity, zero and negative numbers would make the guarantee void",
        )
    return float(value)


def not_negative(value: float, name: str) -> float:
    """Return a finite number of at least zero as a float, or raise ``ConfigError``."""
    if not is_number(value) or value < 0:
        raise ConfigError(f"{name} is a finite number of at least 0, got {value!r}")
    return float(value)


def whole(value: SupportsIndex, name: str, least: int = 1) -> int:
    """Return a whole number of at least ``least``, or raise ``ConfigError`` with its name."""
    if not is_whole_number(value) or operator.index(value) < least:
        raise ConfigError(f"{name} is a whole number of at least {least}, got {value!r}")
    return operator.index(value)


def chance(value: float, name: str) -> float:
    """Return a probability in (0, 1] as a float, or raise ``ConfigError`` with its name."""
    if not is_number(value) or not 0 < value <= 1:
        raise ConfigError(f"{name} is a probability in (0, 1], got {value!r}")
    return float(value)


def small_chance(value: float, name: str = "delta") -> float:
    """Return a probability in (0, 1) as a float, or raise ``ConfigError`` with its name."""
    if not is_number(value) or not 0 < value < 1:
        raise ConfigError(
            f"{name} is a probability between 0 and 1, both excluded, got {value!r}",
            hint="take it well below one over the number of users, for instance 1e-6",
        )
    return float(value)
