"""Schedules: a factor for each step, counted from 1, for :func:`scale_by_schedule`."""

from __future__ import annotations

import math
from collections.abc import Callable

from umbel.base import ConfigError

Schedule = Callable[[int], float]
"""``schedule(step)`` is the learning rate of that step; steps are counted from 1."""


def constant(rate: float) -> Schedule:
    """Return the schedule that never changes.

    Examples
    --------
    >>> constant(0.1)(7)
    0.1
    """
    return lambda step: rate


def step_decay(rate: float, factor: float, every: int) -> Schedule:
    """Return ``rate`` times ``factor`` after every ``every`` steps.

    Examples
    --------
    >>> [step_decay(1.0, factor=0.5, every=2)(step) for step in (1, 2, 3, 4, 5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    _check_steps("every", every)
    return lambda step: rate * factor ** ((step - 1) // every)


def exponential_decay(rate: float, factor: float) -> Schedule:
    """Return ``rate * factor ** (step - 1)``.

    Examples
    --------
    >>> [exponential_decay(1.0, factor=0.5)(step) for step in (1, 2, 3)]
    [1.0, 0.5, 0.25]
    """
    return lambda step: rate * factor ** (step - 1)


def cosine_decay(rate: float, steps: int, least: float = 0.0) -> Schedule:
    """Return half a cosine from ``rate`` in step 1 to ``least`` after ``steps`` more, and on.

    Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, without restarts.

    Examples
    --------
    >>> [round(cosine_decay(1.0, steps=4)(step), 3) for step in (1, 3, 5, 9)]
    [1.0, 0.5, 0.0, 0.0]
    """
    _check_steps("steps", steps)

    def schedule(step: int) -> float:
        done = min(1.0, (step - 1) / steps)
        return least + (rate - least) * (1 + math.cos(math.pi * done)) / 2

    return schedule


def warm_up(schedule: Schedule, steps: int) -> Schedule:
    """Return a straight rise over ``steps`` steps to what ``schedule`` begins with, then it.

    Examples
    --------
    >>> [warm_up(constant(1.0), steps=4)(step) for step in (1, 2, 4, 5)]
    [0.25, 0.5, 1.0, 1.0]
    """
    _check_steps("steps", steps)

    def warmed(step: int) -> float:
        return schedule(1) * step / steps if step <= steps else schedule(step - steps)

    return warmed


def _check_steps(name: str, steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"a schedule needs {name} of at least 1, got {steps}")
