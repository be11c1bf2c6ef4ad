"""Every client gets more samples than the one before it, by a law of its id."""

from __future__ import annotations

from collections.abc import Callable, Sized

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition.arguments import partition_count, sample_count
from umbel.partition.by_sizes import cut
from umbel.partition.gathering import Indices

_Floats = npt.NDArray[np.float64]


def linear(
    samples: int | Sized, num_partitions: int, *, shuffle: bool = True, seed: int = 42
) -> list[Indices]:
    """Return partitions whose sizes are proportional to 1, 2, 3, ...

    Parameters
    ----------
    samples : int or sized
        The number of samples, or anything whose length it is: labels, a data set.
    num_partitions : int
        The number of clients.
    shuffle : bool
        ``False`` takes contiguous blocks instead of drawing at random.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples; every sample is used once.

    Raises
    ------
    PartitionError
        There are too few samples for the smallest client to get one.

    Examples
    --------
    >>> [len(part) for part in linear(60, 4)]
    [6, 12, 18, 24]
    """
    return _cut_by_law("linear", samples, num_partitions, _linear, shuffle, seed)


def square(
    samples: int | Sized, num_partitions: int, *, shuffle: bool = True, seed: int = 42
) -> list[Indices]:
    """Return partitions whose sizes are proportional to 1, 4, 9, ...

    Parameters, result and errors are those of `linear`.

    Examples
    --------
    >>> [len(part) for part in square(60, 4)]
    [2, 8, 18, 32]
    """
    return _cut_by_law("square", samples, num_partitions, _square, shuffle, seed)


def exponential(
    samples: int | Sized, num_partitions: int, *, shuffle: bool = True, seed: int = 42
) -> list[Indices]:
    """Return partitions whose sizes are proportional to e, e^2, e^3, ...

    Parameters, result and errors are those of `linear`. Each client has 2.7 times as many samples
    as the one before it: 60,000 samples are enough for 12 clients.

    Examples
    --------
    >>> [len(part) for part in exponential(60, 4)]
    [2, 5, 14, 39]
    """
    return _cut_by_law("exponential", samples, num_partitions, _exponential, shuffle, seed)


def id_to_size(
    samples: int | Sized,
    num_partitions: int,
    size_of: Callable[[int], float],
    *,
    shuffle: bool = True,
    seed: int = 42,
) -> list[Indices]:
    """Return partitions whose sizes are proportional to ``size_of(partition_id)``, ids from 0.

    ``size_of`` gives a finite number above 0. The rest is that of `linear`.

    Examples
    --------
    >>> [len(part) for part in id_to_size(60, 3, lambda partition_id: 2.0**-partition_id)]
    [34, 17, 9]
    """

    def law(ids: _Floats) -> _Floats:
        sizes = np.array([float(size_of(int(i) - 1)) for i in ids])
        bad = np.flatnonzero(~((sizes > 0) & (sizes < np.inf)))
        if bad.size:
            raise PartitionError(
                f"size_of({bad[0]}) is {sizes[bad[0]]}, and a size is above 0 and finite"
            )
        weights: _Floats = sizes / sizes.max()
        return weights

    return _cut_by_law("id_to_size", samples, num_partitions, law, shuffle, seed)


def _linear(ids: _Floats) -> _Floats:
    return ids


def _square(ids: _Floats) -> _Floats:
    return ids**2


def _exponential(ids: _Floats) -> _Floats:
    weights: _Floats = np.exp(ids - ids[-1])  # the largest is 1, so that none overflows
    return weights


def _cut_by_law(
    scheme: str,
    samples: int | Sized,
    num_partitions: int,
    law: Callable[[_Floats], _Floats],
    shuffle: bool,
    seed: int,
) -> list[Indices]:
    total = sample_count(samples)
    parts = partition_count(num_partitions, total)
    quotas = law(np.arange(1, parts + 1, dtype=np.float64))
    quotas *= total / quotas.sum()
    sizes = rounded(quotas, total)
    smallest = int(sizes.argmin())
    if sizes[smallest] == 0:
        raise PartitionError(
            f"{scheme} sizes leave partition {smallest} with {quotas[smallest]:.2g} of a sample: "
            f"{total} samples are too few for {parts} partitions",
            hint="lower num_partitions, or use a flatter scheme (exponential, square, linear, iid)",
        )
    return cut(total, sizes, scheme, shuffle, seed)


def rounded(quotas: _Floats, total: int) -> Indices:
    """Round to whole numbers that sum to ``total``, the largest remainders up; order is kept."""
    sizes = np.floor(quotas).astype(np.int64)
    by_remainder = np.lexsort((-quotas, sizes - quotas))
    sizes[by_remainder[: total - sizes.sum()]] += 1
    return sizes
