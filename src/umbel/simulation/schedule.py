"""Who does which part of a cohort."""

from __future__ import annotations

import math
from collections import deque

from umbel.updates import Span, halve, reduction_tree

_SHARE = 0.75


class Schedule:
    """Hands out positions so that neighbours tend to meet in one worker, and nobody idles.

    Each worker has a region of its own, cut where the reduction tree is cut, so that it can merge
    its partial sums itself. It gets large batches first and small ones last, so that all finish at
    the same time; one that has finished its region takes half of what the slowest has left. How
    positions are handed out never changes the outcome, only how much there is to merge.

    Parameters
    ----------
    cohort : int
        How many positions there are.
    workers : int
        How many workers share them.
    in_order : bool
        Hand positions out from the first to the last, for replies that are read as they come.

    Examples
    --------
    >>> schedule = Schedule(10, workers=2)
    >>> schedule.take(0, 1, 2), schedule.take(1, 1, 9), schedule.remaining
    ([0, 1], [5, 6, 7, 8], 4)
    """

    def __init__(self, cohort: int, workers: int, *, in_order: bool = False) -> None:
        regions: list[Span] = [(0, cohort)]
        while len(regions) < min(workers, cohort) and not in_order:
            widest = max(regions, key=lambda region: region[1] - region[0])
            at = regions.index(widest)
            regions[at : at + 1] = halve(widest)
        self._regions: list[Span] = regions
        self._tree = reduction_tree(cohort)
        self._given_back: deque[int] = deque()
        self.remaining = cohort

    def take(self, worker: int, least: int, most: int, *, eager: bool = False) -> list[int]:
        """Return between ``least`` and ``most`` positions for this worker, as many as are left.

        None when nothing is left, or nothing but another worker's next batch; unless it is
        ``eager``, because that other one is not getting on.
        """
        taken: list[int] = []
        while len(taken) < most and self._given_back:
            taken.append(self._given_back.popleft())
        if not taken:
            taken = self._from_region(worker % len(self._regions), least, most, eager)
        self.remaining -= len(taken)
        return taken

    def exhausted(self, worker: int) -> bool:
        """Whether a worker has been given all of its own region."""
        low, high = self._regions[worker % len(self._regions)]
        return low == high and not self._given_back

    def give_back(self, positions: list[int]) -> None:
        """Take positions back that a worker could not finish; they are handed out first."""
        self._given_back.extend(positions)
        self.remaining += len(positions)

    def drop(self) -> list[int]:
        """Return all positions that nobody has taken, and forget them."""
        dropped = [*self._given_back]
        for low, high in self._regions:
            dropped += range(low, high)
        self._regions = [(0, 0)]
        self._given_back.clear()
        self.remaining = 0
        return dropped

    def _from_region(self, mine: int, least: int, most: int, eager: bool) -> list[int]:
        low, high = self._regions[mine]
        if low == high:
            low, high = self._from_others(1 if eager else least)
        share = math.ceil(_SHARE * (high - low))
        taken = list(range(low, min(high, low + min(most, max(least, share)))))
        self._regions[mine] = (low + len(taken), high)
        return taken

    def _from_others(self, least: int) -> Span:
        """Take half of what another has left, from the far end, so that it goes on where it is."""
        widths = [high - low for low, high in self._regions]
        victim = widths.index(max(widths))
        start, stop = self._regions[victim]
        if stop - start <= least > 1 or start == stop:
            return (0, 0)  # nothing, or so little that the other is done with it sooner
        low = start + (stop - start) // 2
        # From the beginning of a block if one begins there: members of a block merge in order.
        low = next((edge for edge in self._tree.block_of(low) if start < edge < stop), low)
        self._regions[victim] = (start, low)
        return (low, stop)
