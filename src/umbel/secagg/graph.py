"""Who shares secrets and masks with whom: everybody with everybody, or neighbours on a ring."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from umbel.secagg.transcript import digest


class Graph:
    """The graph of a session's clients.

    With a degree, clients stand on a ring in an order that follows from the roster's hash, each
    joined to ``degree / 2`` clients on either side (Bell et al. 2020, SecAgg+); without, or where
    the roster is too small for it, each is joined to all (Bonawitz et al. 2017, SecAgg).

    Parameters
    ----------
    nodes : sequence of int
        The roster's node ids.
    degree : int or None
        An even number of neighbours.
    roster : bytes
        The roster's hash. Who adds the last keys to it can try some, see choose_degree.

    Examples
    --------
    >>> graph = Graph([1, 2, 3, 4, 5, 6], 2, b"roster")
    >>> [len(graph.neighbours(node)) for node in (1, 2)]
    [2, 2]
    >>> Graph([1, 2, 3], None, b"roster").closed(2)
    (1, 2, 3)
    """

    def __init__(self, nodes: Sequence[int], degree: int | None, roster: bytes) -> None:
        self._all = tuple(sorted(nodes))
        self._half = 0 if degree is None or degree >= len(nodes) - 1 else degree // 2
        self._ring: tuple[int, ...] = ()
        self._place: dict[int, int] = {}
        self._known: dict[int, tuple[int, ...]] = {}
        if self._half:
            self._ring = tuple(sorted(nodes, key=lambda node: digest("ring", roster, node)))
            self._place = {node: place for place, node in enumerate(self._ring)}

    @property
    def size(self) -> int:
        """How many clients a neighbourhood has, its own client among them."""
        return 2 * self._half + 1 if self._half else len(self._all)

    def closed(self, node: int) -> tuple[int, ...]:
        """Return a client's neighbourhood, itself included, in ascending order."""
        if not self._half:
            return self._all
        if node not in self._known:
            place = self._place[node]
            around = range(place - self._half, place + self._half + 1)
            self._known[node] = tuple(sorted(self._ring[i % len(self._ring)] for i in around))
        return self._known[node]

    def neighbours(self, node: int) -> tuple[int, ...]:
        """Return a client's neighbours in ascending order."""
        return tuple(other for other in self.closed(node) if other != node)

    def groups(self, present: Collection[int]) -> list[int]:
        """Return the sizes of the groups in which those present hang together, largest first.

        With more than one, the sum of each would come out, not only the sum of all.
        """
        if not self._half:
            return [len(present)]
        places = sorted(self._place[node] for node in present)
        following = [*places[1:], places[0] + len(self._ring)]
        # Gaps that no edge spans; one cuts a ring open, two cut it apart.
        cuts = [i for i, end in enumerate(following) if end - places[i] > self._half]
        if len(cuts) < 2:
            return [len(places)]
        sizes = [after - before for before, after in pairwise([cuts[-1] - len(places), *cuts])]
        return sorted(sizes, reverse=True)
