"""Every client gets samples of a fixed number of classes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from umbel.base import PartitionError
from umbel.partition.arguments import (
    checked_choice,
    checked_count,
    order_stream,
    partition_count,
    stream,
)
from umbel.partition.gathering import Indices, even_sizes, gather
from umbel.partition.labels import Classes, classify

_Bools = npt.NDArray[np.bool_]

ClassAssignmentMode = Literal["random", "deterministic", "first-deterministic"]


def pathological(
    labels: npt.ArrayLike,
    num_partitions: int,
    num_classes_per_partition: int,
    *,
    class_assignment_mode: ClassAssignmentMode = "random",
    shuffle: bool = True,
    seed: int = 42,
) -> list[Indices]:
    """Return partitions that hold exactly ``num_classes_per_partition`` classes each.

    First each client is assigned its classes; then the samples of a class are shared out evenly
    among the clients that it was assigned to. Every class is assigned to some client, so that no
    sample is lost: where chance left a class out, it takes the place of one that several have.

    Parameters
    ----------
    labels : array-like, shape (num_samples,)
        The class of each sample: numbers or strings.
    num_partitions : int
        The number of clients.
    num_classes_per_partition : int
        The number of classes of each client.
    class_assignment_mode : {"random", "deterministic", "first-deterministic"}
        "random": all classes of a client are drawn without replacement. "deterministic": client
        ``i`` has the classes ``i, i + 1, ...`` in rising order of label, wrapping around; where
        there are more classes than clients, client ``i`` starts at
        ``floor(i * num_classes / num_partitions)``. "first-deterministic" (the paper's): the first
        class of client ``i`` is ``i`` modulo the number of classes, the others are drawn.
    shuffle : bool
        Draw which samples of a class a client gets, and their order. ``False`` keeps the data
        set's order in both.
    seed : int
        The same seed gives the same partitions.

    Returns
    -------
    list of int64 arrays
        The indices of each client's samples; every sample is used once.

    Raises
    ------
    PartitionError
        A client would need more classes than there are, the clients together have room for fewer
        classes than there are, or a class has fewer samples than clients that it is assigned to.

    References
    ----------
    Li, Diao, Chen and He (2022), "Federated learning on non-IID data silos: an experimental
    study", section IV-A, arXiv:2102.02079.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.repeat(np.arange(4), 10)
    >>> parts = pathological(labels, 4, 2, class_assignment_mode="deterministic")
    >>> [np.unique(labels[part]).tolist() for part in parts]
    [[0, 1], [1, 2], [2, 3], [0, 3]]
    """
    classes = classify(labels)
    total, num_classes = len(classes.codes), len(classes.values)
    parts = partition_count(num_partitions, total)
    each = checked_count("num_classes_per_partition", num_classes_per_partition)
    checked_choice(
        "class_assignment_mode",
        class_assignment_mode,
        ("random", "deterministic", "first-deterministic"),
    )
    _check_room(parts, each, num_classes)
    rng = stream(seed, "pathological", "classes")
    assigned = _assigned(rng, parts, each, num_classes, class_assignment_mode)
    _check_sizes(assigned, classes)

    order = order_stream(seed, "pathological", shuffle)
    owner = np.empty(total, dtype=np.int64)
    of_classes = gather(classes.codes, num_classes, order)
    for samples, has_class in zip(of_classes, assigned.T, strict=True):
        holders = rng.permutation(np.flatnonzero(has_class))
        owner[samples] = np.repeat(holders, even_sizes(len(samples), len(holders)))
    return gather(owner, parts, order)


def _check_room(parts: int, each: int, num_classes: int) -> None:
    if each > num_classes:
        raise PartitionError(
            f"num_classes_per_partition is {each}, but there are only {num_classes} classes",
            hint=f"lower it to {num_classes} or less",
        )
    if parts * each < num_classes:
        raise PartitionError(
            f"{parts} partitions of {each} classes have no room for all {num_classes} classes",
            hint=f"raise num_classes_per_partition to {-(-num_classes // parts)}, raise "
            f"num_partitions to {-(-num_classes // each)}, or take the samples of fewer classes",
        )


def _check_sizes(assigned: _Bools, classes: Classes) -> None:
    holders, sizes = assigned.sum(axis=0), classes.sizes()
    short = np.flatnonzero(sizes < holders)
    if short.size:
        worst = short[0]
        raise PartitionError(
            f"class {classes.values[worst]} has {sizes[worst]} samples "
            f"for the {holders[worst]} partitions that it is assigned to",
            hint="lower num_partitions or num_classes_per_partition, leave that class out, or try "
            "class_assignment_mode='deterministic', which spreads classes evenly",
        )


def _assigned(
    rng: np.random.Generator, parts: int, each: int, num_classes: int, mode: ClassAssignmentMode
) -> _Bools:
    """Return which client (row) has which class (column)."""
    clients = np.arange(parts)[:, None]
    assigned = np.zeros((parts, num_classes), dtype=np.bool_)
    if mode == "deterministic":
        starts = clients if parts >= num_classes else clients * num_classes // parts
        assigned[clients, (starts + np.arange(each)) % num_classes] = True
        return assigned
    fixed = np.zeros_like(assigned)
    if mode == "first-deterministic":
        fixed[clients, clients % num_classes] = True
    # The classes with the smallest random keys are drawn; fixed ones come before all others.
    keys = np.where(fixed, -1.0, rng.random(assigned.shape))
    assigned[clients, keys.argsort(axis=1)[:, :each]] = True
    _cover_all_classes(rng, assigned, fixed)
    return assigned


def _cover_all_classes(rng: np.random.Generator, assigned: _Bools, fixed: _Bools) -> None:
    """Give each class that nobody has the place of one that at least two clients have.

    There is always such a place: clients have room for all classes, so that if one is missing
    another is held twice; and of its holders at most one holds it as a fixed class unless there
    are more clients than classes, when the fixed classes cover all.
    """
    for missing in np.flatnonzero(~assigned.any(axis=0)):
        held_twice = assigned.sum(axis=0) >= 2
        places = np.argwhere(assigned & held_twice & ~fixed)
        client, given_up = places[rng.integers(len(places))]
        assigned[client, given_up], assigned[client, missing] = False, True
