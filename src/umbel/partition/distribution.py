"""Every client gets a few classes, in amounts that a table gives: FedProx's log-normal clients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition.arguments import checked_count, order_stream, partition_count
from umbel.partition.gathering import UNUSED, Indices, gather
from umbel.partition.growth import rounded
from umbel.partition.labels import Classes, classify

_Floats = npt.NDArray[np.float64]


def distribution(
    labels: npt.ArrayLike,
    num_partitions: int,
    distribution_array: npt.ArrayLike,
    *,
    num_unique_labels_per_partition: int,
    preassigned_num_samples_per_label: int = 0,
    rescale: bool = True,
    shuffle: bool = True,
    seed: int = 42,
) -> list[Indices]:
    """Return partitions with a fixed number of classes, in amounts that a table gives.

    With ``n`` classes a client and ``K`` classes in all, client ``i`` has the classes
    ``i, i + 1, ..., i + n - 1`` (modulo ``K``), as in the paper's experiments; where the number of
    clients is no multiple of ``K``, the classes ``i n, ..., i n + n - 1``. So each class has the
    same number of holders. Row ``k`` of the table says how class ``k`` is shared out among its
    holders, in the order of clients.

    Parameters
    ----------
    labels : array-like, shape (num_samples,)
        The class of each sample: numbers or strings.
    num_partitions : int
        The number of clients; times ``n``, it is a multiple of ``K``.
    distribution_array : array-like, shape (K, num_partitions * n / K)
        Amounts, not negative.
    num_unique_labels_per_partition : int
        ``n``.
    preassigned_num_samples_per_label : int
        So many samples of each of its classes a client gets beforehand.
    rescale : bool
        Take each row as shares of the samples left in the class, so that all are used. ``False``
        takes the amounts as numbers of samples, rounded down; what is left is not used.
    shuffle : bool
        Draw which samples of a class a client gets, and their order. ``False`` keeps the data
        set's order in both; how many it gets of each class is the same.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples; no sample is used twice.

    Raises
    ------
    PartitionError
        An argument is out of range, or a class has too few samples.

    References
    ----------
    Li et al. (2020), "Federated optimization in heterogeneous networks", arXiv:1812.06127, where
    the table is drawn from a log-normal distribution.

    Examples
    --------
    >>> labels = ["cat"] * 8 + ["dog"] * 8
    >>> table = [[3.0, 1.0], [1.0, 1.0]]  # two clients hold each class
    >>> parts = distribution(labels, 4, table, num_unique_labels_per_partition=1)
    >>> [len(part) for part in parts]
    [6, 4, 2, 4]
    """
    classes = classify(labels)
    parts = partition_count(num_partitions, len(classes.codes))
    each = checked_count("num_unique_labels_per_partition", num_unique_labels_per_partition)
    before = checked_count(
        "preassigned_num_samples_per_label", preassigned_num_samples_per_label, minimum=0
    )
    num_classes = len(classes.values)
    if each > num_classes or parts * each % num_classes:
        raise PartitionError(
            f"{parts} partitions of {each} labels do not share out {num_classes} labels evenly",
            hint="num_partitions * num_unique_labels_per_partition is a multiple of the number of "
            "labels, and no partition has more labels than there are",
        )
    table = _checked_table(distribution_array, (num_classes, parts * each // num_classes))
    firsts = np.arange(parts) * (1 if parts % num_classes == 0 else each)
    has_class = (np.arange(num_classes) - firsts[:, None]) % num_classes < each
    order = order_stream(seed, "distribution", shuffle)
    owner = np.full(len(classes.codes), UNUSED, dtype=np.int64)
    for k, samples in enumerate(gather(classes.codes, num_classes, order)):
        amounts = _amounts(classes, k, table[k], before, rescale)
        owners = np.repeat(np.flatnonzero(has_class[:, k]), amounts)
        owner[samples[: len(owners)]] = owners
    return gather(owner, parts, order)


def _checked_table(distribution_array: npt.ArrayLike, shape: tuple[int, int]) -> _Floats:
    try:
        table = np.asarray(distribution_array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PartitionError(f"distribution_array must hold numbers: {error}") from None
    if table.shape != shape:
        raise PartitionError(
            f"distribution_array has shape {table.shape}, not {shape}",
            hint="a row a label, a column a holder of that label",
        )
    if not ((table >= 0) & (table < np.inf)).all():
        raise PartitionError("distribution_array must be finite and not negative")
    return table


def _amounts(classes: Classes, k: int, row: _Floats, before: int, rescale: bool) -> Indices:
    """Return how many samples of class ``k`` each of its holders gets."""
    left = int(classes.sizes()[k]) - before * len(row)
    if rescale and left > 0 and row.sum() == 0:
        raise PartitionError(f"the row of label {classes.values[k]} sums to zero")
    if rescale and left > 0:
        return before + rounded(row / row.sum() * left, left)
    amounts = np.floor(row).astype(np.int64) if not rescale else np.zeros(len(row), np.int64)
    if amounts.sum() > left:
        raise PartitionError(
            f"label {classes.values[k]} has {classes.sizes()[k]} samples, and "
            f"{amounts.sum() + before * len(row)} are asked for",
            hint="lower preassigned_num_samples_per_label, or set rescale=True",
        )
    return before + amounts
