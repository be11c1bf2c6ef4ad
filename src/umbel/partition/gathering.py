"""From "which client owns each sample" to one index array a client: how every scheme ends."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

UNUSED = -1
"""The owner of a sample that no client gets."""


def gather(owner: Indices, num_owners: int, order: np.random.Generator | None) -> list[Indices]:
    """Return the indices of each owner's samples.

    Parameters
    ----------
    owner : array of int64, shape (num_samples,)
        The owner of each sample, in ``[0, num_owners)``, or ``UNUSED``.
    num_owners : int
        How many arrays are returned.
    order : numpy.random.Generator or None
        Draws the order of each owner's indices; ``None`` leaves them ascending.

    Examples
    --------
    >>> import numpy as np
    >>> [part.tolist() for part in gather(np.array([1, 0, UNUSED, 1]), 2, None)]
    [[1], [0, 3]]
    """
    samples = np.arange(len(owner)) if order is None else order.permutation(len(owner))
    by_owner = samples[np.argsort(owner[samples], kind="stable")].astype(np.int64, copy=False)
    sizes = np.bincount(owner[owner != UNUSED], minlength=num_owners)
    ends = len(owner) - sizes.sum() + np.cumsum(sizes)  # unused samples sort first
    return [by_owner[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def even_sizes(total: int, parts: int) -> Indices:
    """Return ``parts`` sizes that sum to ``total`` and differ by at most one, falling.

    Examples
    --------
    >>> even_sizes(10, 4).tolist()
    [3, 3, 2, 2]
    """
    return total // parts + (np.arange(parts) < total % parts).astype(np.int64)
