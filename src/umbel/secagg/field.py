"""Arithmetic modulo the Mersenne prime 2**31 - 1, on whole arrays.

A product of two elements fits into 64 bits, and the remainder takes two shifts and additions: no
division, no table that a secret would index, no step that depends on a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from umbel.base import KeyStream

Elements: TypeAlias = npt.NDArray[np.uint64]

PRIME = (1 << 31) - 1
_P = np.uint64(PRIME)
_SHIFT = np.uint64(31)


def reduced(numbers: Elements) -> Elements:
    """Return the numbers, each below ``2**63``, modulo the prime.

    Examples
    --------
    >>> reduced(np.array([PRIME, PRIME + 5, (PRIME - 1) ** 2], np.uint64)).tolist()
    [0, 5, 1]
    """
    once = (numbers & _P) + (numbers >> _SHIFT)
    twice = (once & _P) + (once >> _SHIFT)
    return np.where(twice >= _P, twice - _P, twice)


def uniform_elements(stream: KeyStream, shape: tuple[int, ...]) -> Elements:
    """Return elements drawn uniformly from the field, out of a key stream."""
    out = stream.words(int(np.prod(shape)), np.uint32) & np.uint32(PRIME)
    # 31 bits have one value too many; it is drawn again, so that no element is more likely.
    while (beyond := np.flatnonzero(out == PRIME)).size:
        out[beyond] = stream.words(beyond.size, np.uint32) & np.uint32(PRIME)
    return out.astype(np.uint64).reshape(shape)


def evaluated(coefficients: Elements, points: Elements) -> Elements:
    """Return polynomials' values at points, by Horner's rule.

    Parameters
    ----------
    coefficients : ndarray of uint64, shape (degree + 1, polynomials)
        The constant terms come first.
    points : ndarray of uint64, shape (points,)
        Where to evaluate.

    Returns
    -------
    ndarray of uint64, shape (points, polynomials)

    Examples
    --------
    >>> line = np.array([[7], [2]], np.uint64)  # 7 + 2 x
    >>> evaluated(line, np.array([0, 1, 10], np.uint64)).ravel().tolist()
    [7, 9, 27]
    """
    column = points[:, None]
    values = np.broadcast_to(coefficients[-1], (len(points), coefficients.shape[1]))
    for row in coefficients[-2::-1]:
        values = reduced(values * column + row)
    return values


def weights_at_zero(points: Sequence[int]) -> Elements:
    """Return Lagrange's weights: a polynomial's value at 0 is their product with its values.

    Parameters
    ----------
    points : sequence of int
        Distinct, and none of them 0 modulo the prime.

    Examples
    --------
    >>> weights = weights_at_zero([1, 10])
    >>> int(reduced(weights * np.array([9, 27], np.uint64)).sum() % PRIME)  # of 7 + 2 x
    7
    """
    x = np.array(points, np.uint64)
    own = np.eye(len(x), dtype=bool)
    above = _product(np.where(own, np.uint64(1), x))
    below = _product(np.where(own, np.uint64(1), reduced(x + _P - x[:, None])))
    inverse = np.array([pow(int(value), -1, PRIME) for value in below], np.uint64)
    return reduced(above * inverse)


def _product(table: Elements) -> Elements:
    """Return the product of each row."""
    while (width := table.shape[1]) > 1:
        halves = reduced(table[:, : width // 2] * table[:, width // 2 : width // 2 * 2])
        table = np.concatenate([halves, table[:, width // 2 * 2 :]], axis=1)
    return table[:, 0]
