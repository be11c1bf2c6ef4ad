"""Banded matrix factorization: noise that looks back a fixed number of rounds."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.base import ConfigError
from umbel.privacy.checks import whole
from umbel.privacy.noisematrix import Draw
from umbel.privacy.participation import MinSeparation
from umbel.updates import Arrays

Vector = npt.NDArray[np.float64]

_DECIMALS = 9
"""To which coefficients are rounded, so that they are the same with every linear algebra library;
sensitivities are those of the rounded ones."""


@dataclass(frozen=True)
class BandedMatrix:
    """A lower-triangular Toeplitz factor with a number of bands, chosen for the least error.

    The coefficients minimise the mean variance of all prefix sums, for columns of norm 1. Units
    that are ``bands`` rounds apart or more never meet in a row, so that the sensitivity is
    ``sqrt(times)`` times the norm of a column. One band is independent noise (DP-SGD); as many as
    rounds is best for units that take part once. A stream keeps ``bands - 1`` rounds' noise.

    Choquette-Choo et al. 2023, arXiv:2306.08153, section 4; Toeplitz as in McKenna 2024,
    arXiv:2405.15913.

    Parameters
    ----------
    rounds : int
        How many rounds are covered.
    bands : int
        In ``1..rounds``; best is the separation of units, or somewhat less.

    Attributes
    ----------
    coefficients : tuple of float
        The first column, beginning with 1, falling, not negative.

    Raises
    ------
    ConfigError
        A number is out of its range.

    Examples
    --------
    >>> matrix = BandedMatrix(rounds=100, bands=4)
    >>> [round(c, 3) for c in matrix.coefficients]
    [1.0, 0.707, 0.607, 0.525]
    >>> round(matrix.sensitivity(MinSeparation(25, times=4)), 3)
    2.928
    """

    rounds: int
    bands: int
    coefficients: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rounds, bands = whole(self.rounds, "rounds"), whole(self.bands, "bands")
        if bands > rounds:
            raise ConfigError(
                f"{bands} bands do not fit into {rounds} rounds", hint="choose bands <= rounds"
            )
        object.__setattr__(self, "rounds", rounds)
        object.__setattr__(self, "bands", bands)
        object.__setattr__(self, "coefficients", optimal_coefficients(rounds, bands))

    def sensitivity(self, participation: MinSeparation) -> float:
        """Return how far one unit moves ``C x``; exact.

        The columns are positive and falling, so that units that come as early and as often as they
        may move it most (Kalinin and Lampert 2024, arXiv:2405.13763, theorem 2).
        """
        total = np.zeros(self.rounds)
        for time in range(participation.most(self.rounds)):
            start = time * participation.separation
            column = self.coefficients[: self.rounds - start]
            total[start : start + len(column)] += column
        return float(np.linalg.norm(total))

    def repeat_sensitivity(self, participation: MinSeparation) -> float:
        """Return how far one unit moves one entry of ``C x``."""
        met = self.coefficients[:: participation.separation][: participation.most(self.rounds)]
        return math.fsum(met)

    def variances(self) -> Vector:
        """Return the variance of the noise in each prefix sum, for independent noise of 1."""
        sums = np.cumsum(_inverse(np.array(self.coefficients), self.rounds))
        return np.asarray(np.cumsum(sums**2))

    def stream(self) -> BandedStream:
        """Return the noise from the first round on."""
        return BandedStream(self.coefficients)


class BandedStream:
    """Solves ``C noise = z`` row by row: ``noise_t = z_t - sum_i c_i noise_(t-i)``."""

    def __init__(self, coefficients: tuple[float, ...]) -> None:
        self._coefficients = coefficients[1:]
        self._past: deque[Arrays] = deque(maxlen=len(coefficients) - 1)

    def step(self, draw: Draw) -> Arrays:
        """Return what is added to the next round's update; it is not to be changed."""
        noise = draw(0)
        for weight, before in zip(self._coefficients, self._past, strict=False):
            for name, values in noise.items():
                values -= before[name] * values.dtype.type(weight)
        self._past.appendleft(noise)
        return noise


@lru_cache(maxsize=32)
def optimal_coefficients(rounds: int, bands: int) -> tuple[float, ...]:
    """Return the first column of the factor whose prefix sums have the least mean variance.

    Newton's method from the factor's square root, which is optimal for many bands up to a constant.
    """
    column = np.ones(bands)
    for i in range(1, bands):
        column[i] = column[i - 1] * (2 * i - 1) / (2 * i)
    value, gradient, hessian = _loss(column, rounds)
    damping = 1e-3
    for _ in range(200):
        if bands == 1 or np.abs(gradient).max() < 1e-12:
            break
        step = np.linalg.solve(hessian + damping * np.eye(bands - 1), -gradient)
        tried = column.copy()
        tried[1:] += step
        outcome = _loss(tried, rounds)
        if outcome[0] < value:
            column, damping = tried, damping / 10
            value, gradient, hessian = outcome
        elif damping > 1e6:
            break  # nothing that floating-point numbers tell apart is better
        else:
            damping = max(damping * 10, 1e-9)
    falling = np.minimum.accumulate(np.maximum(column, 0.0))  # what `sensitivity` rests on
    return tuple(float(c) for c in np.round(falling, _DECIMALS))


def _loss(column: Vector, rounds: int) -> tuple[float, Vector, npt.NDArray[Any]]:
    """Return log(norm^2 * sum of variances) with gradient and Hessian in all but the first entry.

    With ``r = 1/c`` as power series, ``w`` the sums of ``r`` and ``v = w r``, the sum of variances
    is ``sum_i (rounds - i) w_i^2``, ``dw/dc_j`` is ``-v`` shifted by ``j``, and the second
    derivative is ``2 v r`` shifted by ``j + k``.
    """
    bands, norm2 = len(column), float(column @ column)
    inverse = _inverse(column, rounds)
    sums = np.cumsum(inverse)
    first = np.convolve(sums, inverse)[:rounds]
    second = np.convolve(first, inverse)[:rounds]
    weights = np.arange(rounds, 0, -1.0)
    error = float(weights @ sums**2)
    jacobian = np.zeros((rounds, bands - 1))
    for j in range(1, bands):
        jacobian[j:, j - 1] = -first[: rounds - j]
    pulled = weights * sums
    gradient = 2 * (jacobian.T @ pulled)
    curved = np.array([4 * (pulled[s:] @ second[: max(rounds - s, 0)]) for s in range(2 * bands)])
    places = np.arange(1, bands)
    hessian = 2 * (jacobian.T @ (weights[:, None] * jacobian)) + curved[places[:, None] + places]
    rest = column[1:]
    slope = gradient / error + 2 * rest / norm2
    bend = hessian / error - np.outer(gradient, gradient) / error**2
    bend += 2 * np.eye(bands - 1) / norm2 - 4 * np.outer(rest, rest) / norm2**2
    return math.log(error) + math.log(norm2), slope, bend


def _inverse(column: Vector, rounds: int) -> Vector:
    """Return the first entries of the power series ``1 / column``, whose first entry is 1."""
    back = column[:0:-1]
    inverse = np.zeros(len(back) + rounds)
    start = len(back)
    inverse[start] = 1.0
    for i in range(start + 1, start + rounds):
        inverse[i] = -(back @ inverse[i - start : i])
    return inverse[start:]
