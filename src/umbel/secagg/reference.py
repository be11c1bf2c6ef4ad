"""What secure aggregation must give, computed in the open."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from umbel.secagg.masks import Vector
from umbel.secagg.parameters import SecAggParameters


def plain_sum(parameters: SecAggParameters, vectors: Iterable[Vector]) -> Vector:
    """Return the sum of the vectors modulo ``2**bits``.

    Examples
    --------
    >>> parameters = SecAggParameters(threshold=2, length=2, bits=16)
    >>> plain_sum(parameters, [np.array([65535, 1], np.uint16), np.array([2, 3], np.uint16)])
    array([1, 4], dtype=uint16)
    """
    total = np.zeros(parameters.length, parameters.dtype)
    for vector in vectors:
        total += vector
    return total
