"""Where partial sums are merged: with most backends, in the engine's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from umbel.records import decode
from umbel.simulation.tasks import Bytes
from umbel.updates import Aggregator


class Merger:
    """Takes the partial sums of one job as workers hand them over, and merges them.

    A backend whose sums lie elsewhere may let them lie, and stand for them by a name of its own
    until the last one is asked for. What is merged with what is not its choice.

    Parameters
    ----------
    aggregator : Aggregator
        How to merge.
    read : callable
        Turns a partial sum out of a report into its bytes.
    """

    def __init__(self, aggregator: Aggregator[Any], read: Callable[[Any], Bytes]) -> None:
        self.aggregator = aggregator
        self._read = read

    def take(self, payload: Any) -> Any:
        """Return the sum that a worker handed over, or what stands for it."""
        return self.aggregator.unpack(decode(self._read(payload)))

    def merge(self, left: Any, right: Any) -> Any:
        """Return the sum of two neighbours."""
        return self.aggregator.merge(left, right)

    def total(self, acc: Any) -> Any:
        """Return the sum itself for what stands for it."""
        return acc
