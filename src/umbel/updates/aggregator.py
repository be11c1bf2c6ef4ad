"""Aggregation as a fold: a reply is added and forgotten, and partial sums merge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from umbel.records import RecordDict

Acc = TypeVar("Acc")


class Aggregator(ABC, Generic[Acc]):
    """Combines the replies of a cohort without ever holding them all.

    Workers fold shares of the cohort along a tree that is fixed by the cohort's order, so that the
    bits of the outcome do not depend on who folded what. For that, adding a reply must be merging
    its sum, to the last bit: ``add(acc, x)`` equals ``merge(acc, add(zero(), x))``. An aggregator
    travels to the workers, so it holds settings, never data.

    Attributes
    ----------
    looks_at_values : bool
        Whether ``add`` looks for values that spoil a sum. A worker first does without, asks
        ``is_sound`` of the sum instead, and adds again with a look at each reply if it is not.

    See Also
    --------
    umbel.updates.WeightedMean : the aggregator of FedAvg.
    """

    looks_at_values: bool = True

    @abstractmethod
    def zero(self) -> Acc:
        """Return the accumulator of no replies; whoever gets it may change it."""

    def answering(self, sent: RecordDict) -> None:
        """Hear what the next replies answer, in the process that folds them.

        A fold of what the clients have changed needs it, and must not carry it to the workers: they
        have it. It is the same object for all messages of the same content. Here it does nothing.
        """

    @abstractmethod
    def add(self, acc: Acc, content: RecordDict) -> Acc:
        """Return ``acc`` with one reply added; ``acc`` may be changed in place.

        The arrays in ``content`` are only lent: a reference to them must not be kept.

        Raises
        ------
        RejectedReply
            The reply cannot be used. ``acc`` must then be as it was: check first, add after.
        """

    def is_sound(self, acc: Acc) -> bool:
        """Whether no reply in ``acc`` holds a value that spoils the sum."""
        return True

    @abstractmethod
    def merge(self, left: Acc, right: Acc) -> Acc:
        """Return both partial sums as one.

        Both are spent then: either may be changed in place, where it is writeable.

        Raises
        ------
        AggregationError
            The two do not fit together.
        """

    @abstractmethod
    def finish(self, acc: Acc) -> Any:
        """Return the outcome of the fold; ``acc`` is spent.

        Raises
        ------
        AggregationError
            There is no outcome, for example because all weights are zero.
        """

    @abstractmethod
    def pack(self, acc: Acc) -> RecordDict:
        """Return ``acc`` as records, so that it can travel as a message body."""

    @abstractmethod
    def unpack(self, content: RecordDict) -> Acc:
        """Return the accumulator that ``pack`` was given.

        Its arrays may be read-only, so it goes to ``merge`` and ``finish``, never to ``add``.
        """
