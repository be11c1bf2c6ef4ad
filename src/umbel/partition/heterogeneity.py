"""How far clients differ from each other, in three figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """Label skew and size skew of a federation.

    With ``n_i`` the samples of client ``i``, ``p_i`` its label distribution, and ``p`` that of all
    clients' samples together:

    Attributes
    ----------
    total_variation : float
        Mean over clients of ``TV_i = 1/2 sum_k |p_i(k) - p(k)|``, in [0, 1): the share of a
        client's samples whose label would have to change to make it look like the whole.
    jensen_shannon : float
        Mean over clients of the Jensen-Shannon distance in [0, 1]:
        ``sqrt(KL(p_i || m) / 2 + KL(p || m) / 2)`` with ``m = (p_i + p) / 2`` and logarithms to
        base 2.
    size_imbalance : float
        The coefficient of variation of sizes, ``std(n_i) / mean(n_i)``; 0 when all are equal.

    Notes
    -----
    Clients without samples have no label distribution: only ``size_imbalance`` counts them.
    """

    total_variation: float
    jensen_shannon: float
    size_imbalance: float

    def __str__(self) -> str:
        """Return the three figures in one line."""
        return (
            f"total variation {self.total_variation:.3f}, "
            f"Jensen-Shannon {self.jensen_shannon:.3f}, "
            f"size imbalance {self.size_imbalance:.3f}"
        )


def heterogeneity(counts: npt.ArrayLike) -> Heterogeneity:
    """Return the figures for label counts.

    Parameters
    ----------
    counts : array-like, shape (num_partitions, num_classes)
        The number of samples of each client and class.

    Raises
    ------
    PartitionError
        ``counts`` is no such matrix, has a negative number, or sums to zero.

    References
    ----------
    Lin (1991), "Divergence measures based on the Shannon entropy", IEEE Transactions on
    Information Theory 37(1).

    Examples
    --------
    >>> print(heterogeneity([[10, 0], [0, 10]]))
    total variation 0.500, Jensen-Shannon 0.558, size imbalance 0.000
    """
    matrix = np.asarray(counts, dtype=np.float64)
    if matrix.ndim != 2 or not (matrix >= 0).all() or not 0 < matrix.sum() < np.inf:
        raise PartitionError(
            f"counts must be a matrix of numbers from 0, not all 0, got shape {matrix.shape}",
            hint="one row a client, one column a class",
        )
    sizes = matrix.sum(axis=1)
    everyone = matrix.sum(axis=0) / matrix.sum()
    each = matrix[sizes > 0] / sizes[sizes > 0, None]
    middle = (each + everyone) / 2
    divergence = (_kl_bits(each, middle) + _kl_bits(everyone, middle)) / 2
    return Heterogeneity(
        total_variation=float(np.abs(each - everyone).sum(axis=1).mean() / 2),
        # Rounding can take the divergence of two equal distributions below zero.
        jensen_shannon=float(np.sqrt(divergence.clip(min=0)).mean()),
        size_imbalance=float(sizes.std() / sizes.mean()),
    )


def _kl_bits(p: _Floats, q: _Floats) -> _Floats:
    """Return ``KL(p || q)`` of each row in bits; 0 log 0 is 0, and q > 0 wherever p > 0."""
    ratio = np.divide(p, q, out=np.ones_like(q), where=(p > 0) & (q > 0))
    result: _Floats = (p * np.log2(ratio)).sum(axis=1)
    return result
