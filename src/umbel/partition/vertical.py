"""Every client gets some of the columns, and all samples: vertical federated learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from umbel.base import PartitionError
from umbel.partition.arguments import order_stream, partition_count
from umbel.partition.by_sizes import checked_sizes
from umbel.partition.gathering import Indices, even_sizes


def vertical_even(
    columns: Sequence[str],
    num_partitions: int,
    *,
    active_party_columns: Sequence[str] = (),
    active_party_columns_mode: str | int = "add_to_last",
    drop_columns: Sequence[str] = (),
    shared_columns: Sequence[str] = (),
    shuffle: bool = True,
    seed: int = 42,
) -> list[Indices]:
    """Return the columns of each client, as many for each to within one.

    Parameters
    ----------
    columns : sequence of str
        The names of all columns.
    num_partitions : int
        The number of clients among whom the columns are shared out.
    active_party_columns : sequence of str
        Columns of the one client that learns, such as the label; they are not shared out.
    active_party_columns_mode : str or int
        Who that is: ``"add_to_first"``, ``"add_to_last"``, the number of a client; one more client
        with these columns alone (``"create_as_first"``, ``"create_as_last"``); or everyone
        (``"add_to_all"``).
    drop_columns : sequence of str
        Columns that nobody gets.
    shared_columns : sequence of str
        Columns that everyone gets, such as an id.
    shuffle : bool
        Share columns out at random. ``False`` takes contiguous blocks.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The places of each client's columns in ``columns``, ascending.

    Raises
    ------
    PartitionError
        A name is unknown or given twice, the mode is, or there are too few columns.

    Examples
    --------
    >>> columns = ["id", "age", "height", "weight", "label"]
    >>> options = {"shared_columns": ["id"], "active_party_columns": ["label"], "shuffle": False}
    >>> parts = vertical_even(columns, 2, **options)
    >>> [[columns[place] for place in part] for part in parts]
    [['id', 'age', 'height'], ['id', 'weight', 'label']]
    """
    free = _free(columns, active_party_columns, drop_columns, shared_columns)
    sizes = even_sizes(len(free), partition_count(num_partitions, len(free)))
    own = _cut(free, sizes, "vertical_even", shuffle, seed)
    return _with_rest(own, columns, active_party_columns, active_party_columns_mode, shared_columns)


def vertical_sizes(
    columns: Sequence[str],
    partition_sizes: Sequence[int] | Sequence[float],
    *,
    active_party_columns: Sequence[str] = (),
    active_party_columns_mode: str | int = "add_to_last",
    drop_columns: Sequence[str] = (),
    shared_columns: Sequence[str] = (),
    shuffle: bool = True,
    seed: int = 42,
) -> list[Indices]:
    """Return the columns of each client, as many as it is told to have.

    ``partition_sizes`` are numbers of columns, or all of them fractions (floats that sum to at most
    1) of the columns to share out, rounded down; where they sum to 1, the last client has all that
    rounding left over. The rest is that of `vertical_even`.

    Examples
    --------
    >>> parts = vertical_sizes(["a", "b", "c", "d"], [0.25, 0.75], shuffle=False)
    >>> [part.tolist() for part in parts]
    [[0], [1, 2, 3]]
    """
    free = _free(columns, active_party_columns, drop_columns, shared_columns)
    if partition_sizes and all(isinstance(size, float) for size in partition_sizes):
        if not (min(partition_sizes) > 0 and sum(partition_sizes) <= 1 + 1e-9):
            raise PartitionError(
                f"fractions of the columns are above 0 and sum to at most 1, got {partition_sizes}"
            )
        used_up = sum(partition_sizes) >= 1 - 1e-9
        partition_sizes = [int(size * len(free) + 1e-9) for size in partition_sizes]
        if used_up:
            partition_sizes[-1] = len(free) - sum(partition_sizes[:-1])
    sizes = checked_sizes(partition_sizes, len(free))  # type: ignore[arg-type]
    own = _cut(free, sizes, "vertical_sizes", shuffle, seed)
    return _with_rest(own, columns, active_party_columns, active_party_columns_mode, shared_columns)


def _free(columns: Sequence[str], *taken: Sequence[str]) -> Indices:
    """Return the places of the columns to share out."""
    names = list(columns)
    special = [name for group in taken for name in group]
    if len(set(names)) < len(names) or len(set(special)) < len(special):
        raise PartitionError("a column is named twice, or has two roles", hint=f"{special}")
    if unknown := sorted(set(special) - set(names)):
        raise PartitionError(f"there is no column {unknown[0]!r}", hint=f"one of {names}")
    return np.array([i for i, name in enumerate(names) if name not in special], dtype=np.int64)


def _cut(free: Indices, sizes: Indices, scheme: str, shuffle: bool, seed: int) -> list[Indices]:
    rng = order_stream(seed, scheme, shuffle)
    order = free if rng is None else rng.permutation(free)
    return np.split(order, np.cumsum(sizes))[: len(sizes)]


def _with_rest(
    own: list[Indices],
    columns: Sequence[str],
    active: Sequence[str],
    mode: str | int,
    shared: Sequence[str],
) -> list[Indices]:
    """Add the columns of the active party, and those that everyone gets."""
    names = list(columns)
    extra = np.array([names.index(name) for name in active], dtype=np.int64)
    everyone = np.array([names.index(name) for name in shared], dtype=np.int64)
    nothing = np.empty(0, dtype=np.int64)
    if mode == "create_as_first":
        own, mode = [nothing, *own], 0
    elif mode in ("create_as_last", "add_to_last"):
        own = [*own, nothing] if mode == "create_as_last" else own
        mode = len(own) - 1
    elif mode == "add_to_first":
        mode = 0
    if mode != "add_to_all" and not (isinstance(mode, int) and 0 <= mode < len(own)):
        raise PartitionError(
            f"unknown active_party_columns_mode {mode!r}",
            hint="add_to_first, add_to_last, create_as_first, create_as_last, add_to_all, or the "
            "number of a client",
        )
    gets = [extra if mode in ("add_to_all", i) else nothing for i in range(len(own))]
    return [
        np.sort(np.concatenate([part, more, everyone]))
        for part, more in zip(own, gets, strict=True)
    ]
