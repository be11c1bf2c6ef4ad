"""Fold replies that are all at hand, with the brackets that distributed workers would use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from umbel.base import RejectedReply, UsageError
from umbel.records import RecordDict
from umbel.updates.aggregator import Aggregator
from umbel.updates.tree import PartialSums

Acc = TypeVar("Acc")


def add_member(
    sums: PartialSums[Acc],
    aggregator: Aggregator[Acc],
    position: int,
    content: RecordDict | None,
) -> RejectedReply | None:
    """Add what a member replied to the sum of those before it; return why not, if it is rejected.

    A member that is rejected, or failed and replied ``None``, adds nothing.
    """
    rejection = None
    start, acc = sums.take_before(position)
    if content is not None:
        try:
            acc = aggregator.add(aggregator.zero() if acc is None else acc, content)
        except RejectedReply as error:
            # Without its frames, which would keep the reply's arrays in memory.
            rejection = error.with_traceback(None)
    sums.put((start, position + 1), acc)
    return rejection


def fold(
    aggregator: Aggregator[Acc],
    contents: Iterable[RecordDict | None],
    cohort: int,
    on_reject: Callable[[int, RejectedReply], None] | None = None,
) -> Acc | None:
    """Return the sum of all contents, or ``None`` when there was none to add.

    Parameters
    ----------
    aggregator : Aggregator
        How to add.
    contents : iterable of RecordDict or None
        One a member of the cohort, in the cohort's order; ``None`` for a member that failed.
    cohort : int
        How many members there are.
    on_reject : callable, optional
        Called with the position and the error of a reply that the aggregator will not have; without
        it the error is raised.

    Raises
    ------
    RejectedReply
        A reply cannot be used, and there is no ``on_reject``.
    AggregationError
        Replies do not fit together.
    UsageError
        There are more or fewer contents than members.

    Examples
    --------
    >>> from umbel.records import MetricRecord
    >>> from umbel.updates import WeightedMean
    >>> losses = [0.5, None, 1.5]
    >>> contents = [
    ...     None if x is None else RecordDict({"m": MetricRecord({"num-examples": 1, "loss": x})})
    ...     for x in losses
    ... ]
    >>> mean = WeightedMean(with_arrays=False)
    >>> mean.finish(fold(mean, contents, cohort=3)).metrics["loss"]
    1.0
    """
    sums: PartialSums[Acc] = PartialSums(cohort, aggregator.merge)
    position = -1
    for position, content in enumerate(contents):
        if position == cohort:
            break
        rejection = add_member(sums, aggregator, position, content)
        if rejection is not None:
            if on_reject is None:
                raise rejection
            on_reject(position, rejection)
    if position + 1 != cohort:
        raise UsageError(f"there are {position + 1} contents for a cohort of {cohort}")
    return sums.total()
