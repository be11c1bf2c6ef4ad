"""The Gaussian mechanism: its exact calibration, and its noise from a key stream.

Floating-point noise is not real-valued noise. The proof speaks of a density on the real line; a
float64 draw has gaps, and which floats are possible depends on the value that the noise was added
to, so that low-order bits can give a value away whatever the noise's size (Mironov 2012, "On
significance of the least significant bits for differential privacy", for Laplace noise). Here the
noise comes from 52-bit uniform numbers, and it ends at 8.6 standard deviations, which cuts off a
probability of 1e-17. What softens the attack, without excluding it: each draw depends on two
uniform numbers, is made in float64, and a model that is released in float32 has lost the low-order
bits. Who needs the guarantee to the last bit takes the discrete Gaussian on whole numbers
(``umbel.privacy.discrete``), which is sampled exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from umbel.base import ConfigError, KeyStream
from umbel.privacy.checks import positive, small_chance
from umbel.updates import NDArray

_PAIRS = 1 << 13
"""So many pairs are drawn at a time that all steps stay in the cache."""


def gaussian_delta(sigma: float, epsilon: float, sensitivity: float = 1.0) -> float:
    """Return the least delta of one release with Gaussian noise, for an epsilon.

    ``Phi(s/2 - e/s) - exp(e) Phi(-s/2 - e/s)`` with ``s = sensitivity / sigma`` and ``e`` the
    epsilon: Balle and Wang 2018 (arXiv:1805.06530), theorem 8. It is no bound but the value, for
    neighbours whose vectors are ``sensitivity`` apart in the L2 norm.

    Parameters
    ----------
    sigma : float
        The standard deviation of the noise in each coordinate.
    epsilon : float
        At least 0.
    sensitivity : float
        The largest L2 distance between neighbours' vectors.

    Examples
    --------
    >>> round(gaussian_delta(sigma=1.0, epsilon=1.0), 6)
    0.126937
    """
    ratio = positive(sensitivity, "the sensitivity") / positive(sigma, "sigma")
    if not epsilon >= 0:
        raise ConfigError(f"epsilon is a number of at least 0, got {epsilon}")
    near, far = epsilon / ratio - ratio / 2, epsilon / ratio + ratio / 2
    # exp(e) Phi(-far) is density(near) mills(far), and Phi(-near) is density(near) mills(near):
    # no exponential overflows, and small deltas keep their digits.
    density = math.exp(-near * near / 2) / math.sqrt(2 * math.pi)
    if near < 0:
        return max(0.0, math.erfc(near / math.sqrt(2)) / 2 - density * _mills(far))
    return max(0.0, density * (_mills(near) - _mills(far)))


def gaussian_sigma(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """Return the least noise with which one release is (epsilon, delta)-private.

    The analytic Gaussian mechanism (Balle and Wang 2018, arXiv:1805.06530): unlike the textbook's
    ``sqrt(2 log(1.25 / delta)) / epsilon`` it holds for every epsilon, and it wastes nothing.

    Parameters
    ----------
    epsilon : float
        At least 0.
    delta : float
        In (0, 1).
    sensitivity : float
        The largest L2 distance between neighbours' vectors.

    Returns
    -------
    float
        A standard deviation, rounded up: ``gaussian_delta`` of it is at most ``delta``.

    Examples
    --------
    >>> round(gaussian_sigma(epsilon=1.0, delta=1e-5), 4)
    3.7306
    """
    small_chance(delta)
    if not math.isfinite(epsilon):
        raise ConfigError(f"epsilon is a number of at least 0, got {epsilon}")
    unit = least(lambda sigma: gaussian_delta(sigma, epsilon) <= delta)
    return unit * positive(sensitivity, "the sensitivity")


def gaussian_epsilon(sigma: float, delta: float, sensitivity: float = 1.0) -> float:
    """Return the least epsilon of one release with Gaussian noise, for a delta.

    Parameters
    ----------
    sigma : float
        The standard deviation of the noise in each coordinate.
    delta : float
        In (0, 1).
    sensitivity : float
        The largest L2 distance between neighbours' vectors.

    Returns
    -------
    float
        Rounded up: ``gaussian_delta`` of it is at most ``delta``. It may be 0.

    Examples
    --------
    >>> round(gaussian_epsilon(sigma=3.7306316, delta=1e-5), 4)
    1.0
    """
    small_chance(delta)
    if gaussian_delta(sigma, 0.0, sensitivity) <= delta:
        return 0.0
    return least(lambda epsilon: gaussian_delta(sigma, epsilon, sensitivity) <= delta)


def fill_gaussian(out: NDArray, sigma: float, stream: KeyStream) -> None:
    """Overwrite a flat array of floats with independent normal numbers (Box and Muller 1958).

    Made in float64 and rounded once; the same stream gives the same numbers on machines whose
    mathematical library rounds alike.

    Examples
    --------
    >>> noise = np.empty(3, np.float32)
    >>> fill_gaussian(noise, 2.0, KeyStream(bytes(32)))
    >>> noise.astype(float).round(3).tolist()
    [-0.37, -2.172, -2.199]
    """
    for start in range(0, out.size, 2 * _PAIRS):
        piece = out[start : start + 2 * _PAIRS]
        pairs = (piece.size + 1) // 2
        radius, angle = stream.uniform(2 * pairs).reshape(2, pairs)
        np.log(radius, out=radius)
        radius *= -2 * sigma * sigma
        np.sqrt(radius, out=radius)
        angle *= 2 * math.pi
        piece[:pairs] = np.cos(angle) * radius
        piece[pairs:] = (np.sin(angle, out=angle) * radius)[: piece.size - pairs]


def least(is_enough: Callable[[float], bool]) -> float:
    """Return the least positive number that is enough, rounded up; all larger ones must be.

    Examples
    --------
    >>> least(lambda number: number * number >= 9)
    3.0
    """
    high = 1.0
    while not is_enough(high):
        high *= 2
    low = high / 2
    while is_enough(low):
        low, high = low / 2, low
    while low < (middle := (low + high) / 2) < high:
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high


def _mills(x: float) -> float:
    """Return ``Phi(-x)`` divided by the normal density at ``x``, for ``x >= 0``."""
    if x < 5:
        return math.sqrt(math.pi / 2) * math.exp(x * x / 2) * math.erfc(x / math.sqrt(2))
    # Laplace's continued fraction, 1/(x+1/(x+2/(x+3/...)); from 5 on, 60 terms are exact.
    tail = x
    for term in range(60, 0, -1):
        tail = x + term / tail
    return 1 / tail
