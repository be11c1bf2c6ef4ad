"""Every client gets its own mix of classes, drawn from a Dirichlet distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition.arguments import checked_count, order_stream, partition_count, stream
from umbel.partition.gathering import Indices, gather
from umbel.partition.labels import classify

_Floats = npt.NDArray[np.float64]

MAX_DRAWS = 100
"""How often shares are drawn anew until every client has ``min_partition_size`` samples."""


def dirichlet(
    labels: npt.ArrayLike,
    num_partitions: int,
    alpha: float | Sequence[float] | _Floats,
    *,
    min_partition_size: int = 10,
    self_balancing: bool = False,
    shuffle: bool = True,
    seed: int = 42,
) -> list[Indices]:
    """Return partitions that share out each class by a draw from a Dirichlet distribution.

    For each class ``k`` shares ``p_k ~ Dir(alpha)`` over the clients are drawn, and the samples of
    the class are cut at the cumulative shares: client ``i`` gets ``p_k[i]`` of them. Cuts are
    rounded from one random offset a class, so that each client gets its share on average whatever
    its place in the list.

    Parameters
    ----------
    labels : array-like, shape (num_samples,)
        The class of each sample: numbers or strings.
    num_partitions : int
        The number of clients.
    alpha : float or array-like, shape (num_partitions,)
        The concentration, above 0. Small (0.1): a client sees few classes; large (100): close to
        IID. An array gives clients with a larger value more samples.
    min_partition_size : int
        Draw again (up to 100 times) until each client has this many samples. 0 allows clients
        without any.
    self_balancing : bool
        Give no sample of the next class to a client that has ``num_samples / num_partitions``
        already, so that sizes differ less.
    shuffle : bool
        Draw which samples of a class a client gets, and their order. ``False`` keeps the data
        set's order in both; how many it gets of each class is the same.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples; every sample is used once.

    Raises
    ------
    PartitionError
        An argument is out of range, or no draw gave each client ``min_partition_size`` samples.

    References
    ----------
    Hsu, Qi and Brown (2019), "Measuring the effects of non-identical data distribution for
    federated visual classification", arXiv:1909.06335; cut by class and self-balancing as in
    Yurochkin et al. (2019), "Bayesian nonparametric federated learning of neural networks",
    arXiv:1905.12022.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.repeat(["cat", "dog"], 50)
    >>> parts = dirichlet(labels, 4, alpha=0.5, min_partition_size=5)
    >>> sum(len(part) for part in parts), min(len(part) for part in parts) >= 5
    (100, True)
    """
    classes = classify(labels)
    total = len(classes.codes)
    parts = partition_count(num_partitions, total)
    least = checked_count("min_partition_size", min_partition_size, minimum=0)
    if least * parts > total:
        raise PartitionError(
            f"{parts} partitions of at least {least} samples need {least * parts} samples, "
            f"but there are only {total}",
            hint=f"lower min_partition_size to {total // parts} or less, or num_partitions",
        )
    limit = total / parts if self_balancing else np.inf
    rng = stream(seed, "dirichlet", "shares")
    counts = _drawn_counts(rng, classes.sizes(), _checked_alpha(alpha, parts), least, limit)

    order = order_stream(seed, "dirichlet", shuffle)
    owner = np.empty(total, dtype=np.int64)
    clients = np.arange(parts)
    of_classes = gather(classes.codes, len(classes.values), order)
    for samples, of_clients in zip(of_classes, counts, strict=True):
        owner[samples] = np.repeat(clients, of_clients)
    return gather(owner, parts, order)


def _checked_alpha(alpha: float | Sequence[float] | _Floats, parts: int) -> _Floats:
    try:
        values = np.asarray(alpha, dtype=np.float64)
    except (TypeError, ValueError):
        raise PartitionError(f"alpha must be a number or an array, got {alpha!r}") from None
    if values.ndim == 0:
        values = np.full(parts, values)
    if values.shape != (parts,):
        raise PartitionError(
            f"alpha has shape {values.shape}, but there are {parts} partitions",
            hint="give one number, or one number a partition",
        )
    # NaN fails both comparisons. NumPy draws zeros where the sum of alpha overflows.
    if not (values > 0).all() or not values.max() < np.finfo(np.float64).max / parts:
        raise PartitionError(
            f"alpha must be above 0 and finite, got {alpha}",
            hint="0.1 for a strong skew, 1 for a moderate one, 100 for nearly none",
        )
    return values


def _drawn_counts(
    rng: np.random.Generator, class_sizes: Indices, alpha: _Floats, least: int, limit: float
) -> Indices:
    """Return the samples of each class (row) for each client (column)."""
    best = -1
    for _ in range(MAX_DRAWS):
        counts = _one_draw(rng, class_sizes, alpha, limit)
        smallest = int(counts.sum(axis=0).min())
        if smallest >= least:
            return counts
        best = max(best, smallest)
    balancing = ", or set self_balancing=True" if limit == np.inf else ""
    raise PartitionError(
        f"in {MAX_DRAWS} draws the smallest partition never had more than {best} samples; "
        f"min_partition_size is {least}",
        hint=f"raise alpha, lower num_partitions, lower min_partition_size to {best}{balancing}",
    )


def _one_draw(
    rng: np.random.Generator, class_sizes: Indices, alpha: _Floats, limit: float
) -> Indices:
    shares = rng.dirichlet(alpha, size=len(class_sizes))
    offsets = rng.random(len(class_sizes))
    counts = np.empty(shares.shape, dtype=np.int64)
    sizes = np.zeros(len(alpha), dtype=np.int64)
    for row, size in enumerate(class_sizes):
        is_open = sizes < limit
        share = np.where(is_open, shares[row], 0.0)
        if share.sum() == 0:  # a small alpha gave all of the class to full clients
            share = is_open / is_open.sum()
        counts[row] = _cut_cumulatively(share, int(size), offsets[row])
        sizes += counts[row]
    return counts


def _cut_cumulatively(share: _Floats, size: int, offset: float) -> Indices:
    """Return whole numbers near ``share * size`` that sum to ``size``.

    With ``offset`` uniform in [0, 1) the expectation is exact (systematic sampling).
    """
    cumulative = np.cumsum(share)
    cumulative /= cumulative[-1]
    ends = np.minimum(np.floor(cumulative * size + offset), size).astype(np.int64)
    return np.diff(ends, prepend=0)
