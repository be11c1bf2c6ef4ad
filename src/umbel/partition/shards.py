"""Every client gets some shards: blocks of a data set that is sorted by label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition.arguments import checked_count, order_stream, partition_count, stream
from umbel.partition.gathering import UNUSED, Indices, even_sizes, gather
from umbel.partition.labels import classify


def shards(
    labels: npt.ArrayLike,
    num_partitions: int,
    *,
    num_shards_per_partition: int | None = None,
    shard_size: int | None = None,
    keep_incomplete_shard: bool = False,
    shuffle: bool = True,
    seed: int = 42,
) -> list[Indices]:
    """Return partitions made of shards, dealt at random: blocks of the samples sorted by label.

    Give one or both of the numbers:

    - ``num_shards_per_partition``: all samples are cut into ``num_partitions`` times as many
      shards, of equal size to within one sample; all samples are used.
    - ``shard_size``: shards of this size are dealt until none is left; the number of shards of two
      clients differs by at most one. Samples left over make no shard, unless
      ``keep_incomplete_shard``.
    - both: each client gets so many shards of that size, drawn from all; the rest is not used.

    Parameters
    ----------
    labels : array-like, shape (num_samples,)
        The class of each sample: numbers or strings.
    num_partitions : int
        The number of clients.
    num_shards_per_partition : int, optional
        The number of shards of each client; 2 in the paper.
    shard_size : int, optional
        The number of samples in a shard.
    keep_incomplete_shard : bool
        Deal the samples left over as one smaller shard. Only with ``shard_size`` alone.
    shuffle : bool
        Draw which samples of a class fall into which of its shards, and the order of each
        client's samples. ``False`` keeps the data set's order in both; shards are dealt at random
        all the same.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples; no sample is used twice.

    Raises
    ------
    PartitionError
        Neither number is given, or there are too few samples for the shards asked for.

    References
    ----------
    McMahan et al. (2017), "Communication-efficient learning of deep networks from decentralized
    data", section 3, arXiv:1602.05629.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.repeat(np.arange(10), 20)
    >>> parts = shards(labels, 5, num_shards_per_partition=2)
    >>> [len(np.unique(labels[part])) for part in parts]
    [2, 2, 2, 2, 2]
    """
    classes = classify(labels)
    total = len(classes.codes)
    parts = partition_count(num_partitions, total)
    if shard_size is None:
        if num_shards_per_partition is None:
            raise PartitionError(
                "shards have neither a number nor a size",
                hint="give num_shards_per_partition, shard_size, or both",
            )
        each = checked_count("num_shards_per_partition", num_shards_per_partition)
        if parts * each > total:
            raise _too_few(parts * each, 1, total)
        sizes = even_sizes(total, parts * each)
    else:
        sizes = _sizes_of_fixed_shards(
            total, parts, num_shards_per_partition, shard_size, keep_incomplete_shard
        )
    if keep_incomplete_shard and num_shards_per_partition is not None:
        raise PartitionError(
            "keep_incomplete_shard has no meaning with num_shards_per_partition",
            hint="leave one of the two out",
        )

    order = order_stream(seed, "shards", shuffle)
    by_class = np.concatenate(gather(classes.codes, len(classes.values), order))
    holders = _dealt(len(sizes), parts, num_shards_per_partition, stream(seed, "shards", "deal"))
    owner = np.full(total, UNUSED, dtype=np.int64)
    owner[by_class[: sizes.sum()]] = np.repeat(holders, sizes)
    return gather(owner, parts, order)


def _sizes_of_fixed_shards(
    total: int, parts: int, per_partition: int | None, shard_size: int, keep_incomplete: bool
) -> Indices:
    size = checked_count("shard_size", shard_size)
    full, left_over = divmod(total, size)
    needed = parts
    if per_partition is not None:
        needed *= checked_count("num_shards_per_partition", per_partition)
    sizes = [size] * full + [left_over] * (keep_incomplete and left_over > 0)
    if len(sizes) < needed:
        raise _too_few(needed, size, total)
    return np.array(sizes, dtype=np.int64)


def _too_few(needed: int, size: int, total: int) -> PartitionError:
    return PartitionError(
        f"{total} samples are too few for {needed} shards of at least {size}",
        hint="lower num_partitions, num_shards_per_partition or shard_size",
    )


def _dealt(
    num_shards: int, parts: int, per_partition: int | None, rng: np.random.Generator
) -> Indices:
    """Return the client of each shard."""
    places = num_shards if per_partition is None else parts * per_partition
    holders = np.full(num_shards, UNUSED, dtype=np.int64)
    # Who gets one shard more than others is drawn as well.
    holders[:places] = rng.permutation(parts)[np.arange(places) % parts]
    return rng.permutation(holders)
