"""The reduction tree: how the replies of a cohort are summed, fixed by its size alone.

Floating-point addition is not associative, so the bits of a sum depend on where the brackets are.
Here the cohort is halved by its order until a block has at most ``BLOCK_MAX`` members (more in very
large cohorts); inside a block replies are added in order, and blocks are merged along the halves.
Who does which part of it changes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

Acc = TypeVar("Acc")
Span = tuple[int, int]
"""Members of a cohort, from the first to before the last."""

BLOCK_MAX = 8
BLOCKS_MAX = 4096
"""No cohort is cut into more than twice as many blocks as this."""


class ReductionTree:
    """The tree over a cohort.

    Parameters
    ----------
    cohort : int
        How many members it has.

    Examples
    --------
    >>> tree = ReductionTree(10)
    >>> tree.blocks
    [(0, 5), (5, 10)]
    >>> tree.kin((2, 3)), tree.kin((0, 3)), tree.kin((0, 5))
    (((0, 2), (0, 3)), ((3, 4), (0, 4)), ((5, 10), (0, 10)))
    """

    def __init__(self, cohort: int) -> None:
        self.cohort = cohort
        self.blocks: list[Span] = []
        self._kin: dict[Span, tuple[Span, Span]] = {}
        size = max(BLOCK_MAX, -(-cohort // BLOCKS_MAX))
        stack: list[Span] = [(0, cohort)]
        while stack:
            span = stack.pop()
            if span[1] - span[0] <= size:
                self.blocks.append(span)
                continue
            left, right = halve(span)
            self._kin[left], self._kin[right] = (right, span), (left, span)
            stack += [right, left]
        self._starts = [start for start, _ in self.blocks]

    def kin(self, span: Span) -> tuple[Span, Span] | None:
        """Return the sibling and the parent of a node; the root has none."""
        low, high = span
        start, stop = self.block_of(low)
        if span == (start, stop) or high - low > stop - start:
            return self._kin.get(span)
        # Inside a block the tree is a chain: (start, k) and (k, k + 1) make (start, k + 1).
        if low == start:
            return (high, high + 1), (start, high + 1)
        return (start, low), (start, high)

    def block_of(self, position: int) -> Span:
        """Return the block that a member is in."""
        return self.blocks[bisect_right(self._starts, position) - 1]


def halve(span: Span) -> tuple[Span, Span]:
    """Return the two halves of a span; the left one is longer if they differ.

    Examples
    --------
    >>> halve((0, 5))
    ((0, 3), (3, 5))
    """
    low, high = span
    middle = (low + high + 1) // 2
    return (low, middle), (middle, high)


@lru_cache(maxsize=16)
def reduction_tree(cohort: int) -> ReductionTree:
    """Return the tree over a cohort of this size."""
    return ReductionTree(cohort)


@dataclass(frozen=True, slots=True)
class _Stowed(Generic[Acc]):
    """A sum that was put elsewhere; it may be read-only, so it is merged and never added to."""

    acc: Acc


class PartialSums(Generic[Acc]):
    """Partial sums over spans of a cohort; two siblings are merged as soon as both are there.

    A sum of no replies is ``None``, the identity.

    Examples
    --------
    >>> sums = PartialSums(3, merge=lambda a, b: f"({a}+{b})")
    >>> for member, name in [(2, "c"), (0, "a"), (1, "b")]:
    ...     sums.put((member, member + 1), name)
    >>> sums.total()
    '((a+b)+c)'
    """

    def __init__(self, cohort: int, merge: Callable[[Acc, Acc], Acc]) -> None:
        self._tree = reduction_tree(cohort)
        self._merge = merge
        self._held: dict[Span, Acc | _Stowed[Acc] | None] = {}

    def take_before(self, position: int) -> tuple[int, Acc | None]:
        """Return where the sum begins that a member is to be added to, and that sum.

        If the members of its block before it are summed already, their sum is given away, and
        adding to it is what merging would do; else the member begins a sum of its own.
        """
        start = self._tree.block_of(position)[0]
        before = (start, position)
        acc = self._held.get(before)
        if before not in self._held or isinstance(acc, _Stowed):
            return position, None
        del self._held[before]
        return start, acc

    def block_of(self, position: int) -> Span:
        """Return the block that a member is in."""
        return self._tree.block_of(position)

    def is_next(self, position: int) -> bool:
        """Whether the members of its block before this one are summed already."""
        start = self._tree.block_of(position)[0]
        return position == start or (start, position) in self._held

    def in_memory(self) -> list[Span]:
        """Return the spans of those sums that are held and not stowed."""
        return [
            span
            for span, acc in self._held.items()
            if acc is not None and not isinstance(acc, _Stowed)
        ]

    def stow(self, elsewhere: Callable[[Acc], Acc]) -> None:
        """Replace each sum by what ``elsewhere`` makes of it: the same, and it may be read-only."""
        for span, acc in list(self._held.items()):
            if acc is not None and not isinstance(acc, _Stowed):
                self._held[span] = _Stowed(elsewhere(acc))

    def put(self, span: Span, acc: Acc | None) -> None:
        """Take the sum over ``span``, and merge upwards as far as it goes."""
        held: Acc | _Stowed[Acc] | None = acc
        while (kin := self._tree.kin(span)) is not None:
            sibling, parent = kin
            if sibling not in self._held:
                break
            other = self._held.pop(sibling)
            if held is None or other is None:
                held = other if held is None else held
            else:
                left, right = (held, other) if span < sibling else (other, held)
                held = self._merge(_opened(left), _opened(right))
            span = parent
        self._held[span] = held

    def drain(self) -> Iterator[tuple[Span, Acc | None]]:
        """Give away everything held, as ``(span, sum)``."""
        while self._held:
            span, acc = self._held.popitem()
            yield span, None if acc is None else _opened(acc)

    def complete(self) -> bool:
        """Whether every member has been put."""
        return not self._tree.cohort or (0, self._tree.cohort) in self._held

    def total(self) -> Acc | None:
        """Return the sum over all members; ``None`` when no reply was in it.

        Every member must have been put.
        """
        acc = self._held[0, self._tree.cohort] if self._tree.cohort else None
        return None if acc is None else _opened(acc)


def _opened(acc: Acc | _Stowed[Acc]) -> Acc:
    return acc.acc if isinstance(acc, _Stowed) else acc
