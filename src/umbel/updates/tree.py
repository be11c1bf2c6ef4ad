"""The reduction tree: how a cohort is cut and summed, fixed by its size alone.

Floating-point addition is not associative, so the bits of a sum depend on where the brackets are.
Here the cohort is cut into blocks by its order, replies are folded inside a block in order, and
blocks are merged along a balanced binary tree. Who does which part of it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Generic, TypeVar

Acc = TypeVar("Acc")
Span = tuple[int, int]

BLOCKS_MAX = 256
"""No cohort is cut into more blocks than this: it bounds the partial sums that are in flight."""


def block_size(cohort: int) -> int:
    """Return how many members of a cohort make a block.

    Examples
    --------
    >>> block_size(10), block_size(1000)
    (1, 4)
    """
    return max(1, -(-cohort // BLOCKS_MAX))


def block_count(cohort: int) -> int:
    """Return into how many blocks a cohort is cut.

    Examples
    --------
    >>> block_count(10), block_count(1000), block_count(0)
    (10, 250, 0)
    """
    return -(-cohort // block_size(cohort))


def halve(span: Span) -> tuple[Span, Span]:
    """Return the two children of a node ``(low, high)`` of the tree over blocks.

    Examples
    --------
    >>> halve((0, 5))
    ((0, 3), (3, 5))
    """
    low, high = span
    middle = (low + high + 1) // 2
    return (low, middle), (middle, high)


@lru_cache(maxsize=64)
def _kin(blocks: int) -> dict[Span, tuple[Span, Span]]:
    """Map every node but the root to its sibling and its parent."""
    kin: dict[Span, tuple[Span, Span]] = {}
    stack: list[Span] = [(0, blocks)]
    while stack:
        parent = stack.pop()
        if parent[1] - parent[0] < 2:
            continue
        left, right = halve(parent)
        kin[left], kin[right] = (right, parent), (left, parent)
        stack += [left, right]
    return kin


class PartialSums(Generic[Acc]):
    """Partial sums over spans of blocks; two siblings are merged as soon as both are there.

    A sum of no replies is ``None``, the identity.

    Examples
    --------
    >>> sums = PartialSums(3, merge=lambda a, b: f"({a}+{b})")
    >>> for block, name in [(2, "c"), (0, "a"), (1, "b")]:
    ...     sums.put((block, block + 1), name)
    >>> sums.total()
    '((a+b)+c)'
    """

    def __init__(self, blocks: int, merge: Callable[[Acc, Acc], Acc]) -> None:
        self._blocks = blocks
        self._kin = _kin(blocks)
        self._merge = merge
        self._held: dict[Span, Acc | None] = {}

    def put(self, span: Span, acc: Acc | None) -> None:
        """Take the sum over ``span``, and merge upwards as far as it goes."""
        while span in self._kin:
            sibling, parent = self._kin[span]
            if sibling not in self._held:
                break
            other = self._held.pop(sibling)
            left, right = (acc, other) if span < sibling else (other, acc)
            if left is None or right is None:
                acc = right if left is None else left
            else:
                acc = self._merge(left, right)
            span = parent
        self._held[span] = acc

    def drain(self) -> Iterator[tuple[Span, Acc | None]]:
        """Give away everything held, as ``(span, sum)``."""
        while self._held:
            yield self._held.popitem()

    def complete(self) -> bool:
        """Whether every block has been put."""
        return not self._blocks or (0, self._blocks) in self._held

    def total(self) -> Acc | None:
        """Return the sum over all blocks; ``None`` when no reply was in it.

        Every block must have been put.
        """
        if not self._blocks:
            return None
        return self._held[0, self._blocks]
