"""The Laplace mechanism: its exact calibration, and its noise from a key stream.

What ``umbel.privacy.gaussian`` says of floating-point noise is worse here: Mironov's attack was on
this mechanism.
"""

from __future__ import annotations

import math

import numpy as np

from umbel.base import ConfigError, KeyStream
from umbel.privacy.checks import positive, small_chance
from umbel.updates import NDArray

_ITEMS = 1 << 14


def laplace_delta(scale: float, epsilon: float, sensitivity: float = 1.0) -> float:
    """Return the least delta of one release with Laplace noise, for an epsilon.

    ``1 - exp((epsilon - sensitivity / scale) / 2)``, and 0 from ``sensitivity / scale`` on, where
    the release is purely epsilon-private (Dwork et al. 2006). Exact for neighbours that differ in
    one coordinate; where the distance is spread over several, they are told apart no better.

    Parameters
    ----------
    scale : float
        The noise has the density ``exp(-|x| / scale) / (2 scale)`` in each coordinate.
    epsilon : float
        At least 0.
    sensitivity : float
        The largest L1 distance between neighbours' vectors.

    Examples
    --------
    >>> laplace_delta(scale=2.0, epsilon=0.5), round(laplace_delta(scale=2.0, epsilon=0.1), 6)
    (0.0, 0.181269)
    """
    if not epsilon >= 0:
        raise ConfigError(f"epsilon is a number of at least 0, got {epsilon}")
    pure = positive(sensitivity, "the sensitivity") / positive(scale, "the scale")
    return max(0.0, -math.expm1((epsilon - pure) / 2))


def laplace_scale(epsilon: float, delta: float = 0.0, sensitivity: float = 1.0) -> float:
    """Return the least noise with which one release is (epsilon, delta)-private.

    Parameters
    ----------
    epsilon : float
        Above 0.
    delta : float
        In [0, 1).
    sensitivity : float
        The largest L1 distance between neighbours' vectors.

    Examples
    --------
    >>> laplace_scale(epsilon=0.5)
    2.0
    """
    pure = positive(epsilon, "epsilon") - 2 * math.log1p(-_delta(delta))
    return positive(sensitivity, "the sensitivity") / pure


def laplace_epsilon(scale: float, delta: float = 0.0, sensitivity: float = 1.0) -> float:
    """Return the least epsilon of one release with Laplace noise, for a delta.

    Parameters
    ----------
    scale : float
        The scale of the noise in each coordinate.
    delta : float
        In [0, 1).
    sensitivity : float
        The largest L1 distance between neighbours' vectors.

    Examples
    --------
    >>> laplace_epsilon(scale=2.0)
    0.5
    """
    pure = positive(sensitivity, "the sensitivity") / positive(scale, "the scale")
    return max(0.0, pure + 2 * math.log1p(-_delta(delta)))


def fill_laplace(out: NDArray, scale: float, stream: KeyStream) -> None:
    """Overwrite a flat array of floats with independent Laplace numbers, by inversion.

    Made in float64 and rounded once.

    Examples
    --------
    >>> noise = np.empty(3, np.float32)
    >>> fill_laplace(noise, 2.0, KeyStream(bytes(32)))
    >>> noise.astype(float).round(3).tolist()
    [0.155, 0.115, 1.185]
    """
    for start in range(0, out.size, _ITEMS):
        piece = out[start : start + _ITEMS]
        centred = stream.uniform(piece.size) - 0.5  # exact
        size = np.log(1 - 2 * np.abs(centred))  # exact up to the logarithm, and never of 0
        piece[...] = np.copysign(size * scale, centred)


def _delta(delta: float) -> float:
    return delta if delta == 0 else small_chance(delta)
