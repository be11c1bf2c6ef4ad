"""The discrete Gaussian: noise of whole numbers, sampled exactly.

Whole numbers can be summed modulo a power of two under secure aggregation, and they have no
low-order bits that give something away. Floating-point arithmetic only decides where it cannot be
wrong; the few draws that come too near to call are decided with as many digits as they need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from umbel.base import ConfigError, KeyStream, derive_key
from umbel.privacy.checks import positive

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CHUNK = 1 << 14
_LARGEST_SIGMA = 2.0**36
"""Above it, too many draws would be too near to call."""

_TOO_NEAR = 2.0**-45
"""Probabilities nearer than this to a coin in float64 are compared without floats."""


def discrete_gaussian(count: int, sigma: float, stream: KeyStream) -> Integers:
    """Return independent whole numbers ``x`` with probabilities in proportion to their weights.

    The weight is ``exp(-x**2 / (2 sigma**2))``. Canonne, Kamath and Steinke 2020
    (arXiv:2004.00010), algorithm 3: a discrete Laplace number is drawn and kept with a probability
    that makes it a discrete Gaussian one. The probabilities are met exactly, with ``sigma`` as the
    rational number that the float is, and the same stream gives the same numbers on every machine.

    A sum of such numbers is not quite a discrete Gaussian number; Skellam noise is closed under
    sums.

    Parameters
    ----------
    count : int
        How many.
    sigma : float
        From 2**-36 to 2**36. Their standard deviation is below it where it is small, and from 1 on
        equal to it in six digits and more.
    stream : KeyStream
        Where the bits come from.

    Raises
    ------
    ConfigError
        ``sigma`` is not in range.

    Examples
    --------
    >>> discrete_gaussian(6, 3.0, KeyStream(bytes(32))).tolist()
    [-3, -3, 2, -2, 6, 6]
    """
    square = Fraction(in_range(sigma)) ** 2
    scale = math.floor(sigma) + 1

    def log_chance(size: Floats) -> Floats:
        distance = size - float(square) / scale
        distance *= distance
        distance *= -0.5 / float(square)
        return distance

    def exact_chance(size: int) -> Fraction:
        return -((size - square / scale) ** 2) / (2 * square)

    return thinned_laplace(count, scale, stream, log_chance, exact_chance)


def thinned_laplace(
    count: int,
    scale: int,
    stream: KeyStream,
    log_chance: Callable[[Floats], Floats],
    exact_chance: Callable[[int], Fraction] | None = None,
) -> Integers:
    """Return discrete Laplace numbers, each kept with a chance that depends on its size.

    Parameters
    ----------
    count : int
        How many are to be kept.
    scale : int
        The probability of ``x`` is in proportion to ``exp(-|x| / scale)``.
    stream : KeyStream
        Where the bits come from.
    log_chance : callable
        The logarithm of the chance for each size, at most 0; exact to 2**-46 of the chance.
    exact_chance : callable, optional
        The same for one size, as a rational number. Without it, the chance is what ``log_chance``
        says.
    """
    out = np.empty(count, np.int64)
    key = stream.words(32, np.uint8).tobytes()
    filled = 0
    while filled < count:
        tries = min(_CHUNK, (count - filled) + (count - filled) // 2 + 16)
        words = stream.words(2 * tries, np.uint64)
        sizes = geometric(words[:tries], scale, key)
        coins = words[tries:]
        negative = (coins & np.uint64(1)).astype(bool)
        kept = _decided(coins >> np.uint64(1), sizes, key, log_chance, exact_chance)
        kept &= ~(negative & (sizes == 0))  # zero has one sign
        drawn = np.where(negative, -sizes, sizes)[kept][: count - filled]
        out[filled : filled + drawn.size] = drawn
        filled += drawn.size
    return out


def geometric(words: npt.NDArray[np.uint64], scale: int, key: bytes) -> Integers:
    """Return the whole part of ``-scale log(u)``, where a word holds the first 64 bits of ``u``.

    At least ``k`` with the probability ``exp(-k / scale)``, exactly: where these bits leave it
    open, further ones follow from them and the key.

    Examples
    --------
    >>> words = np.array([0x8000000000000000, 0x1000000000000000], np.uint64)
    >>> geometric(words, 10, bytes(32)).tolist()
    [6, 27]
    """
    uniform = words.astype(np.float64)
    uniform += 0.5  # the middle of what the bits leave open, up to rounding
    open_part = scale / uniform
    uniform *= 2.0**-64
    value = np.log(uniform, out=uniform)
    value *= -scale
    whole = np.floor(value)
    error = (value + scale) * 2.0**-48 + open_part
    unsure = (value - whole < error) | (whole + 1 - value < error)
    sizes = whole.astype(np.int64)
    for place in np.flatnonzero(unsure):
        sizes[place] = _exact_geometric(int(words[place]), scale, key)
    return sizes


def _decided(
    coins: npt.NDArray[np.uint64],
    sizes: Integers,
    key: bytes,
    log_chance: Callable[[Floats], Floats],
    exact_chance: Callable[[int], Fraction] | None,
) -> npt.NDArray[np.bool_]:
    """Return whether ``u``, whose first 63 bits are given, is below the chance of each size."""
    uniform = coins.astype(np.float64)
    uniform += 0.5
    uniform *= 2.0**-63
    chance = np.exp(log_chance(sizes.astype(np.float64)))
    kept: npt.NDArray[np.bool_] = uniform < chance
    if exact_chance is not None:
        for place in np.flatnonzero(np.abs(uniform - chance) < _TOO_NEAR):
            logarithm = exact_chance(int(sizes[place]))
            kept[place] = _exactly_below(int(coins[place]), logarithm, key)
    return kept


def _exact_geometric(word: int, scale: int, key: bytes) -> int:
    bits = 64
    while True:
        with localcontext(prec=bits // 3 + 20):
            one = Decimal(1 << bits)
            margin = scale * Decimal(10) ** -(bits // 3)
            low = -scale * ((word + 1) / one).ln() - margin
            if word and math.floor(low) == math.floor(-scale * (word / one).ln() + margin):
                return math.floor(low)
        word, bits = _lengthened(word, bits, key)


def _exactly_below(word: int, logarithm: Fraction, key: bytes) -> bool:
    """Return whether ``u``, whose first 63 bits are given, is below ``exp(logarithm)``."""
    bits = 63
    while True:
        with localcontext(prec=bits // 3 + 20):
            one = Decimal(1 << bits)
            margin = Decimal(10) ** -(bits // 3 + 10)
            chance = (Decimal(logarithm.numerator) / logarithm.denominator).exp()
            if (word + 1) / one < chance - margin:
                return True
            if word / one > chance + margin:
                return False
        word, bits = _lengthened(word, bits, key)


def _lengthened(word: int, bits: int, key: bytes) -> tuple[int, int]:
    """Return 64 bits more: a function of those before, so that no other draw is shifted."""
    return (word << 64) | int.from_bytes(derive_key(key, bits, word)[:8], "little"), bits + 64


def in_range(sigma: float) -> float:
    """Return a standard deviation that the samplers of whole numbers can do, or raise."""
    if not 1 / _LARGEST_SIGMA <= positive(sigma, "sigma") <= _LARGEST_SIGMA:
        raise ConfigError(
            f"noise of whole numbers has a sigma from 2**-36 to 2**36, got {sigma:g}",
            hint="change the scale of the numbers before they are rounded",
        )
    return float(sigma)
