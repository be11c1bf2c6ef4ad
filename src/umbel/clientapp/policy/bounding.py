"""Arrays whose distance from those of a message is bounded, and hidden in noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from umbel.privacy import NoiseSource

Normals = Callable[[int], NDArray[np.float64]]
"""Returns so many independent draws from the standard normal distribution."""

_CHUNK_ELEMENTS = 1 << 15
"""Elements worked on at a time: large enough for speed, small enough to stay in the cache."""


class Pair(NamedTuple):
    """An array that leaves, and where it is measured from.

    Attributes
    ----------
    record, key : str
        Its names.
    before : ndarray or None
        The array of the message; ``None`` for zeros.
    after : ndarray
        The array of the reply.
    """

    record: str
    key: str
    before: NDArray[Any] | None
    after: NDArray[Any]


def normals_of(key: bytes) -> Normals:
    """Return the draws that a secret key stands for; a key is used once."""
    source, calls = NoiseSource(key, seeded=False), count()

    def draw(size: int) -> NDArray[np.float64]:
        like = np.broadcast_to(np.float64(0), (size,))
        return source.gaussian({"draws": like}, 1.0, "policy", next(calls))["draws"]

    return draw


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether values are real and floating; by name, so that bfloat16 and float8 are as well."""
    return dtype.name.startswith(("float", "bfloat"))


def norm(pairs: list[Pair]) -> float:
    """Return the L2 norm of the differences; NaN or infinity if one of the values is none.

    Examples
    --------
    >>> norm([Pair("arrays", "w", None, np.array([3.0, 4.0]))])
    5.0
    """
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at the result
        squares = [float(np.square(chunk).sum()) for pair in pairs for _, chunk in _chunks(pair)]
        return math.sqrt(math.fsum(squares)) if all(map(math.isfinite, squares)) else math.inf


def bounded(pair: Pair, factor: float, sigma: float, normals: Normals | None) -> NDArray[Any]:
    """Return ``before + factor * (after - before) + sigma * noise``, with the dtype of ``after``.

    Parameters
    ----------
    pair : Pair
        The array.
    factor : float
        What the difference is multiplied by.
    sigma : float
        Standard deviation of the noise.
    normals : callable or None
        Where the noise comes from; ``None`` for no noise.
    """
    result = np.empty(pair.after.shape, pair.after.dtype.newbyteorder("="))
    flat, start = result.reshape(-1), 0
    for before, change in _chunks(pair):
        change *= factor
        if normals is not None:
            change += sigma * normals(len(change))
        change += before
        stop = start + len(change)
        with np.errstate(over="ignore"):
            flat[start:stop] = change
        start = stop
    return result


def _chunks(pair: Pair) -> Iterator[tuple[NDArray[np.float64] | float, NDArray[np.float64]]]:
    """Yield where an array is measured from and how far it is from there, piece by piece."""
    after = pair.after.reshape(-1)
    before = None if pair.before is None else pair.before.reshape(-1)
    for start in range(0, after.size, _CHUNK_ELEMENTS):
        piece = slice(start, start + _CHUNK_ELEMENTS)
        change = after[piece].astype(np.float64)
        if before is None:
            yield 0.0, change
        else:
            reference = before[piece].astype(np.float64)
            change -= reference
            yield reference, change
