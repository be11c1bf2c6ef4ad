"""Every client gets the number of samples it is told to get."""

from __future__ import annotations

from collections.abc import Sequence, Sized

import numpy as np

from umbel.base import PartitionError
from umbel.partition.arguments import checked_count, order_stream, sample_count
from umbel.partition.gathering import Indices


def by_sizes(
    samples: int | Sized, partition_sizes: Sequence[int], *, shuffle: bool = True, seed: int = 42
) -> list[Indices]:
    """Return partitions of the sizes given, drawn at random.

    Parameters
    ----------
    samples : int or sized
        The number of samples, or anything whose length it is: labels, a data set.
    partition_sizes : sequence of int
        The number of samples of each client, at least 1 each. Where they sum to less than there
        are samples, the rest is not used.
    shuffle : bool
        ``False`` takes contiguous blocks instead, from the first sample on.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples; no sample is used twice.

    Raises
    ------
    PartitionError
        A size is below 1, there is none, or they sum to more than there are samples.

    Examples
    --------
    >>> [part.tolist() for part in by_sizes(6, [1, 3], shuffle=False)]
    [[0], [1, 2, 3]]
    """
    total = sample_count(samples)
    return cut(total, checked_sizes(partition_sizes, total), "by_sizes", shuffle, seed)


def checked_sizes(partition_sizes: Sequence[int], total: int) -> Indices:
    """Return the sizes as int64; there is one at least, and they sum to at most ``total``."""
    sizes = [checked_count(f"partition_sizes[{i}]", s) for i, s in enumerate(partition_sizes)]
    if not sizes:
        raise PartitionError("partition_sizes are empty", hint="give one size a client")
    if sum(sizes) > total:
        raise PartitionError(
            f"partition_sizes sum to {sum(sizes)}, but there are only {total} samples",
            hint=f"lower them by {sum(sizes) - total} in all",
        )
    return np.array(sizes, dtype=np.int64)


def cut(total: int, sizes: Indices, scheme: str, shuffle: bool, seed: int) -> list[Indices]:
    """Return consecutive pieces of these sizes of ``range(total)``, shuffled first if asked."""
    rng = order_stream(seed, scheme, shuffle)
    order = np.arange(total, dtype=np.int64) if rng is None else rng.permutation(total)
    ends = np.cumsum(sizes)
    pieces = zip(ends - sizes, ends, strict=True)
    return [order[start:end].astype(np.int64, copy=False) for start, end in pieces]
