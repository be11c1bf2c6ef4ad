"""Every client gets a range of a continuous value: age, income, time of day."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition.arguments import order_stream, partition_count, stream
from umbel.partition.gathering import Indices, even_sizes, gather


def continuous(
    values: npt.ArrayLike,
    num_partitions: int,
    strictness: float,
    *,
    shuffle: bool = True,
    seed: int = 42,
) -> list[Indices]:
    """Return partitions of equal size along a continuous value.

    Samples are sorted by ``strictness * z + (1 - strictness) * noise``, with ``z`` the standardised
    value and ``noise`` standard normal, and cut into equal blocks.

    Parameters
    ----------
    values : array-like of numbers, shape (num_samples,)
        The value of each sample.
    num_partitions : int
        The number of clients.
    strictness : float
        From 0 (IID) to 1 (client 0 has the smallest values, the last one the largest).
    shuffle : bool
        Draw the order of each client's samples. ``False`` keeps the data set's order.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples; every sample is used once.

    Raises
    ------
    PartitionError
        An argument is out of range, or a value is not a finite number.

    Examples
    --------
    >>> [part.tolist() for part in continuous([30, 10, 40, 20], 2, 1.0, shuffle=False)]
    [[1, 3], [0, 2]]
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PartitionError(f"values must be numbers: {error}") from None
    if array.ndim != 1 or not np.isfinite(array).all():
        raise PartitionError(
            f"values must be finite and of one dimension, got shape {array.shape}",
            hint="drop samples whose value is missing",
        )
    parts = partition_count(num_partitions, len(array))
    if not 0 <= strictness <= 1:
        raise PartitionError(f"strictness must lie in [0, 1], got {strictness}")
    spread = array.std()
    scores = (array - array.mean()) / (spread if spread > 0 else 1.0)
    noise = stream(seed, "continuous", "noise").standard_normal(len(array))
    scores = strictness * scores + (1 - strictness) * noise
    owner = np.empty(len(array), dtype=np.int64)
    owner[np.argsort(scores, kind="stable")] = np.repeat(
        np.arange(parts), even_sizes(len(array), parts)
    )
    return gather(owner, parts, order_stream(seed, "continuous", shuffle))
