"""How much noise for how much privacy: two of ε, δ and the noise give the third."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from umbel.base import ConfigError
from umbel.privacy.accounting import Accountant, AccountantName, make_accountant
from umbel.privacy.checks import positive, small_chance, whole
from umbel.privacy.events import (
    Adjacency,
    GaussianEvent,
    LaplaceEvent,
    Sampling,
    natural_adjacency,
)

NOISE_MIN, NOISE_MAX = 1e-3, 1e6
"""Noise multipliers are looked for between these."""

_PRECISION = 1e-4


@dataclass(frozen=True)
class Calibration:
    """Noise and the privacy that it gives over all rounds.

    Attributes
    ----------
    epsilon, delta : float
        The guarantee over all rounds.
    noise_multiplier : float
        The noise of each round over the bound on what one unit gives.
    rounds : int
        How many releases there are.
    sampling : Sampling
        How the units of each round are chosen.
    adjacency : str
        Which data sets are neighbours.
    accountant : str
        How ε was counted.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    rounds: int
    sampling: Sampling
    adjacency: Adjacency
    accountant: AccountantName


def calibrate(
    rounds: int,
    sampling: Sampling,
    *,
    epsilon: float | None = None,
    delta: float | None = None,
    noise_multiplier: float | None = None,
    accountant: AccountantName = "pld",
    adjacency: Adjacency | None = None,
    mechanism: type[GaussianEvent] | type[LaplaceEvent] = GaussianEvent,
) -> Calibration:
    """Return the third of ε, δ and noise multiplier, given two of them.

    Parameters
    ----------
    rounds : int
        How many releases there will be.
    sampling : Sampling
        How the units of each round are chosen.
    epsilon, delta, noise_multiplier : float, optional
        Two of the three. The noise that is found is at most 0.01 % above the least that keeps to ε,
        and never below it; ``epsilon`` of the answer is what that noise gives.
    accountant : {"pld", "rdp"}
        How to count; see :func:`make_accountant`.
    adjacency : str, optional
        Which data sets are neighbours; by default those that go with the sampling.
    mechanism : type, default=GaussianEvent
        Which noise: :class:`GaussianEvent` or :class:`LaplaceEvent`.

    Raises
    ------
    ConfigError
        Not two of the three are given, one is out of range, or no noise multiplier between 0.001
        and a million gives that ε and δ.

    Examples
    --------
    >>> from umbel.privacy.events import Poisson
    >>> plan = calibrate(100, Poisson(0.1), epsilon=2.0, delta=1e-6, accountant="rdp")
    >>> round(plan.noise_multiplier, 3)
    2.67
    """
    count = whole(rounds, "rounds")
    adjacency = adjacency or natural_adjacency(sampling)
    if [epsilon, delta, noise_multiplier].count(None) != 1:
        raise ConfigError(
            "two of epsilon, delta and noise_multiplier give the third; got "
            f"epsilon={epsilon}, delta={delta}, noise_multiplier={noise_multiplier}"
        )

    def releases(noise: float) -> Accountant:
        return make_accountant(accountant, adjacency).compose(mechanism(noise, sampling), count)

    if delta is None:
        assert epsilon is not None
        assert noise_multiplier is not None
        delta = releases(noise_multiplier).delta(positive(epsilon, "epsilon"))
    else:
        at = small_chance(delta)
        if noise_multiplier is None:
            assert epsilon is not None
            budget = positive(epsilon, "epsilon")
            noise_multiplier = _least_noise(lambda z: releases(z).epsilon(at), budget)
        epsilon = releases(noise_multiplier).epsilon(at)
    return Calibration(epsilon, delta, noise_multiplier, count, sampling, adjacency, accountant)


def _least_noise(epsilon_of: Callable[[float], float], budget: float) -> float:
    """Return the least noise that keeps to the budget, to a relative precision of 1e-4."""

    def excess(log_noise: float) -> float:
        ratio = epsilon_of(math.exp(log_noise)) / budget
        return min(max(math.log(ratio), -2.0), 2.0) if ratio > 0 else -2.0

    low, over, high, under = _bracket(excess, budget)
    # Regula falsi on a nearly straight line, a little beside the root so that both ends close in;
    # every third step halves, whatever the line is.
    step = 0
    beside = _PRECISION / 4
    while high - low > _PRECISION:
        step += 1
        at = (low + high) / 2
        if step % 3:
            root = low + (high - low) * over / (over - under)
            at = min(
                max(root + (beside if step % 3 == 1 else -beside), low + beside), high - beside
            )
        value = excess(at)
        if value > 0:
            low, over = at, value
        else:
            high, under = at, value
    return math.exp(high)


def _bracket(excess: Callable[[float], float], budget: float) -> tuple[float, float, float, float]:
    """Return a log noise that is over the budget and one that is not, each with its excess."""
    before, value = 0.0, excess(0.0)
    step = math.copysign(math.log(1.5), value)
    while math.log(NOISE_MIN) <= before + step <= math.log(NOISE_MAX):
        at, found = before + step, excess(before + step)
        if found <= 0 < value:
            return before, value, at, found
        if value <= 0 < found:
            return at, found, before, value
        before, value, step = at, found, step * 1.5
    raise ConfigError(
        f"no noise multiplier between {NOISE_MIN:g} and {NOISE_MAX:g} gives epsilon={budget:g}",
        hint="give the noise multiplier, and see what epsilon it gives",
    )
