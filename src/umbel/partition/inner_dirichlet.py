"""Every client has the size it is told to have, and its own mix of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition.arguments import order_stream, stream
from umbel.partition.by_sizes import checked_sizes
from umbel.partition.gathering import UNUSED, Indices, gather
from umbel.partition.labels import classify

_Floats = npt.NDArray[np.float64]


def inner_dirichlet(
    labels: npt.ArrayLike,
    partition_sizes: Sequence[int],
    alpha: float | Sequence[float] | _Floats,
    *,
    shuffle: bool = True,
    seed: int = 42,
) -> list[Indices]:
    """Return partitions of the sizes given, whose mixes of classes are Dirichlet draws.

    Client ``i`` draws ``p_i ~ Dir(alpha)`` over the classes, and the class of each of its samples
    from ``p_i``. Where more samples of a class are asked for than there are, those who get one are
    drawn at random, and the others draw again from the classes that are left.

    Parameters
    ----------
    labels : array-like, shape (num_samples,)
        The class of each sample: numbers or strings.
    partition_sizes : sequence of int
        The number of samples of each client. Where they sum to less than there are samples, the
        rest is not used.
    alpha : float or array-like, shape (num_classes,)
        The concentration, above 0. Small: a client has few classes. An array, in the order of the
        sorted classes, makes those with a larger value more frequent.
    shuffle : bool
        Draw which samples of a class a client gets, and their order. ``False`` keeps the data
        set's order in both.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples; no sample is used twice.

    Raises
    ------
    PartitionError
        An argument is out of range.

    References
    ----------
    Acar et al. (2021), "Federated learning based on dynamic regularization", arXiv:2111.04263.

    Examples
    --------
    >>> parts = inner_dirichlet(["cat", "dog"] * 50, [10, 60], alpha=0.5)
    >>> [len(part) for part in parts]
    [10, 60]
    """
    classes = classify(labels)
    sizes = checked_sizes(partition_sizes, len(classes.codes))
    concentration = _checked_alpha(alpha, len(classes.values))
    rng = stream(seed, "inner_dirichlet", "classes")
    counts = _drawn(rng, rng.dirichlet(concentration, len(sizes)), sizes, classes.sizes())

    order = order_stream(seed, "inner_dirichlet", shuffle)
    owner = np.full(len(classes.codes), UNUSED, dtype=np.int64)
    of_classes = gather(classes.codes, len(classes.values), order)
    for samples, of_clients in zip(of_classes, counts.T, strict=True):
        owners = np.repeat(np.arange(len(sizes)), of_clients)
        owner[samples[: len(owners)]] = owners
    return gather(owner, len(sizes), order)


def _drawn(rng: np.random.Generator, shares: _Floats, sizes: Indices, stock: Indices) -> Indices:
    """Return the samples of each class (column) for each client (row)."""
    counts = np.zeros(shares.shape, dtype=np.int64)
    left = stock.copy()
    # Each pass meets all needs or empties a class, so that there are few.
    while (needs := sizes - counts.sum(axis=1)).any():
        wanted = np.zeros_like(counts)
        for client in np.flatnonzero(needs):
            share = np.where(left > 0, shares[client], 0.0)
            share = share if share.sum() > 0 else left.astype(np.float64)
            wanted[client] = rng.multinomial(needs[client], share / share.sum())
        for k in np.flatnonzero(wanted.sum(axis=0) > left):
            asked = np.repeat(np.arange(len(sizes)), wanted[:, k])
            lucky = rng.permutation(asked)[: left[k]]
            wanted[:, k] = np.bincount(lucky, minlength=len(sizes))
        counts += wanted
        left -= wanted.sum(axis=0)
    return counts


def _checked_alpha(alpha: float | Sequence[float] | _Floats, num_classes: int) -> _Floats:
    try:
        values = np.broadcast_to(np.asarray(alpha, dtype=np.float64), (num_classes,))
    except (TypeError, ValueError):
        raise PartitionError(
            f"alpha must be one number or one for each of {num_classes} classes, got {alpha!r}"
        ) from None
    if not ((values > 0) & (values < 1e300)).all():
        raise PartitionError(f"alpha must be above 0 and finite, got {alpha}")
    return values
