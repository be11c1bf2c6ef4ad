"""Every client gets the same number of samples, drawn at random."""

from __future__ import annotations

from collections.abc import Sized

from umbel.partition.arguments import partition_count, sample_count
from umbel.partition.by_sizes import cut
from umbel.partition.gathering import Indices, even_sizes


def iid(
    samples: int | Sized, num_partitions: int, *, shuffle: bool = True, seed: int = 42
) -> list[Indices]:
    """Return partitions of equal size (to within one sample), drawn at random.

    Parameters
    ----------
    samples : int or sized
        The number of samples, or anything whose length it is: labels, a data set.
    num_partitions : int
        The number of clients, at most the number of samples.
    shuffle : bool
        ``False`` cuts the data set into contiguous blocks instead, which is IID only where the
        data set is in random order already.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples; every sample is used once.

    Raises
    ------
    PartitionError
        ``num_partitions`` is not in ``[1, number of samples]``.

    Examples
    --------
    >>> [len(part) for part in iid(10, 4)]
    [3, 3, 2, 2]
    >>> [part.tolist() for part in iid(5, 2, shuffle=False)]
    [[0, 1, 2], [3, 4]]
    """
    total = sample_count(samples)
    sizes = even_sizes(total, partition_count(num_partitions, total))
    return cut(total, sizes, "iid", shuffle, seed)
