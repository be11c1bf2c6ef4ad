"""Who does which part of a cohort."""

from __future__ import annotations

from collections import deque

from umbel.updates import Span, halve, reduction_tree


class Schedule:
    """Hands out positions so that neighbours tend to meet in one worker, and nobody idles.

    Each worker has a region of its own, cut where the reduction tree is cut, so that it can merge
    its partial sums itself. One that has finished its region takes half of what the slowest has
    left. How positions are handed out never changes the outcome, only how much there is to merge.

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
    >>> schedule.take(0, 2), schedule.take(1, 3), schedule.remaining
    ([0, 1], [5, 6, 7], 5)
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

    def take(self, worker: int, count: int, *, eager: bool = False) -> list[int]:
        """Return at most ``count`` positions for this worker.

        None when nothing is left, or nothing but another worker's next batch; unless it is
        ``eager``, because that other one is not getting on.
        """
        taken: list[int] = []
        while len(taken) < count and self._given_back:
            taken.append(self._given_back.popleft())
        if not taken:
            taken = self._from_region(worker % len(self._regions), count, eager)
        self.remaining -= len(taken)
        return taken

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

    def _from_region(self, mine: int, count: int, eager: bool) -> list[int]:
        low, high = self._regions[mine]
        if low == high:
            widths = [b - a for a, b in self._regions]
            victim = widths.index(max(widths))
            start, stop = self._regions[victim]
            if start == stop:
                return []
            if stop - start <= count > 1 and not eager:
                return []  # the other one's next batch, and too short to share
            # Half of the rest, from the far end, so that the victim goes on where it is; from the
            # beginning of a block if one begins there, since members of a block merge in order.
            low, high = start + (stop - start) // 2, stop
            block = self._tree.block_of(low)
            low = next((edge for edge in block if start < edge < stop), low)
            self._regions[victim] = (start, low)
        taken = list(range(low, min(high, low + count)))
        self._regions[mine] = (low + len(taken), high)
        return taken
