"""Skellam noise: whole numbers whose sums are Skellam noise again."""

from __future__ import annotations

import math

import numpy as np

from umbel.base import KeyStream
from umbel.privacy.checks import positive
from umbel.privacy.discrete import Floats, Integers, in_range, thinned_laplace

_TABLE_SCALES = 64
"""Discrete Laplace numbers beyond this many scales come with a probability of 1e-28."""

_EXPANDED_FROM = 1000.0
"""From this variance on, four terms of the expansion are exact to 1e-14."""


def skellam(count: int, variance: float, stream: KeyStream) -> Integers:
    """Return independent Skellam numbers: differences of two Poisson numbers of the same mean.

    Agarwal, Kairouz and Liu 2021 (arXiv:2110.04995). The sum of ``n`` parts of the variance ``v``
    has the very distribution of one part of the variance ``n v``, so that clients can add noise
    for each other under secure aggregation.

    The weights are modified Bessel functions, ``I_x(variance)``, computed in float64: each
    probability is right to a relative 1e-13 and an absolute 1e-19.

    Parameters
    ----------
    count : int
        How many.
    variance : float
        From 2**-72 to 2**72: the sum of the two Poisson numbers' means.
    stream : KeyStream
        Where the bits come from.

    Raises
    ------
    ConfigError
        ``variance`` is not in range.

    Examples
    --------
    >>> skellam(6, 9.0, KeyStream(bytes(32))).tolist()
    [-3, -3, 2, -2, 6, 6]
    """
    sigma = in_range(math.sqrt(positive(variance, "the variance")))
    scale = math.floor(sigma) + 1
    if variance < _EXPANDED_FROM:
        table = _log_weights(variance, _TABLE_SCALES * scale)
        table += np.arange(table.size) / scale
        table -= table.max()
        table[-1] = -math.inf

        def from_table(size: Floats) -> Floats:
            return table[np.minimum(size, table.size - 1).astype(np.intp)]

        return thinned_laplace(count, scale, stream, from_table)

    # The size at which the weight is highest above the discrete Laplace number's.
    peak = math.floor(variance * math.sinh(1 / scale)) + np.arange(-2.0, 4.0)
    highest = float((expanded_log_weight(peak, variance) + peak / scale).max())

    def from_expansion(size: Floats) -> Floats:
        chance = expanded_log_weight(size, variance)
        chance += size / scale
        chance -= highest
        return chance

    return thinned_laplace(count, scale, stream, from_expansion)


def _log_weights(variance: float, count: int) -> Floats:
    """Return ``log(I_x / I_0)`` of the variance for ``x`` from 0 to ``count - 1``."""
    ratios = np.empty(count)
    ratio = 0.0
    for x in range(count - 1, 0, -1):  # in this direction, errors shrink
        ratio = 1 / (2 * x / variance + ratio)
        ratios[x] = ratio
    ratios[0] = 1.0
    return np.asarray(np.cumsum(np.log(ratios)))


def expanded_log_weight(size: Floats, variance: float) -> Floats:
    """Return ``log I_x(variance)`` but for a constant, at each size ``x``.

    Debye's expansion, uniform in ``x``: NIST Handbook of Mathematical Functions, 10.41.3.

    Examples
    --------
    >>> weights = np.exp(expanded_log_weight(np.array([0.0, 10.0]), 1e4))
    >>> round(float(weights[1] / weights[0]), 6)  # near exp(-10**2 / (2 * 1e4))
    0.995012
    """
    relative = size / variance
    root = np.hypot(size, variance)
    square = np.square(size / root)
    series = (
        (3 - 5 * square) / 24 / root
        + ((385 * square - 462) * square + 81) / 1152 / root**2
        + (((-425425 * square + 765765) * square - 369603) * square + 30375) / 414720 / root**3
        + (
            (((185910725 * square - 446185740) * square + 349922430) * square - 94121676) * square
            + 4465125
        )
        / 39813120
        / root**4
    )
    # hypot(x, v) - v, without a difference of large numbers
    power = size * size / (root + variance) - size * np.arcsinh(relative)
    return np.asarray(power - np.log1p(relative * relative) / 4 + np.log1p(series))
