"""Every client is a group of the users, writers, hospitals or devices of the data set."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition.arguments import checked_choice, checked_count
from umbel.partition.gathering import UNUSED, Indices, even_sizes, gather
from umbel.partition.labels import classify

GroupingMode = Literal["allow-smaller", "allow-bigger", "drop-remainder", "drop-reminder", "strict"]


def grouped_natural_id(
    ids: npt.ArrayLike,
    group_size: int,
    *,
    mode: GroupingMode = "allow-smaller",
    sort_unique_ids: bool = False,
) -> list[Indices]:
    """Return partitions that hold all samples of ``group_size`` distinct ids each.

    Parameters
    ----------
    ids : array-like, shape (num_samples,)
        Whom each sample comes from: numbers or strings.
    group_size : int
        The number of ids in a group.
    mode : {"allow-smaller", "allow-bigger", "drop-remainder", "strict"}
        What to do with ids left over when the number of ids is no multiple of ``group_size``:
        make them a smaller last group, make the groups larger by one id from the first on, leave
        their samples out, or raise. "drop-reminder", Flower's spelling, is taken too.
    sort_unique_ids : bool
        Group ids in rising order; ``False`` groups them in the order in which they first appear.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples, ascending; every sample is used once, except those
        of dropped ids.

    Raises
    ------
    PartitionError
        There are too few ids for one group (except with "allow-smaller"), or, with "strict",
        their number is no multiple of ``group_size``.

    Examples
    --------
    >>> ids = ["bo", "al", "bo", "cy"]
    >>> [part.tolist() for part in grouped_natural_id(ids, 2)]
    [[0, 1, 2], [3]]
    >>> [part.tolist() for part in grouped_natural_id(ids, 2, mode="drop-remainder")]
    [[0, 1, 2]]
    """
    writers = classify(ids, name="ids")
    size = checked_count("group_size", group_size)
    checked_choice(
        "mode",
        mode,
        ("allow-smaller", "allow-bigger", "drop-remainder", "drop-reminder", "strict"),
    )
    num_ids = len(writers.values)
    group_of_rank, num_groups = _grouped(num_ids, size, mode)
    group_of_id = np.empty_like(group_of_rank)
    group_of_id[_ranking(writers.codes, sort_unique_ids)] = group_of_rank
    return gather(group_of_id[writers.codes], num_groups, None)


def _ranking(codes: Indices, in_rising_order: bool) -> Indices:
    """Return the ids, as codes, in the order in which they are grouped."""
    distinct, first_seen = np.unique(codes, return_index=True)
    return distinct if in_rising_order else distinct[np.argsort(first_seen)]


def _grouped(num_ids: int, size: int, mode: GroupingMode) -> tuple[Indices, int]:
    """Return the group of the first id, the second id, ...; and the number of groups."""
    full, left_over = divmod(num_ids, size)
    groups = np.arange(num_ids, dtype=np.int64) // size
    if left_over == 0:
        return groups, full
    if mode == "strict":
        raise PartitionError(
            f"{num_ids} ids cannot be cut into groups of {size}: {left_over} are left over",
            hint="change group_size, or set mode to allow-smaller, allow-bigger or drop-remainder",
        )
    if mode == "allow-smaller":
        return groups, full + 1
    if full == 0:
        raise PartitionError(
            f"{num_ids} ids are too few for one group of {size}",
            hint=f"lower group_size to {num_ids} or less, or set mode='allow-smaller'",
        )
    if mode == "allow-bigger":
        return np.repeat(np.arange(full), even_sizes(num_ids, full)), full
    groups[full * size :] = UNUSED
    return groups, full
