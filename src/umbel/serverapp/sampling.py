"""Who takes part in a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from umbel.base import ROUND_TIMEOUT_S, ConfigError, Seeds, is_number, is_whole_number
from umbel.serverapp.grid import Grid

Sampler = Callable[[Grid, Seeds], Sequence[int]]
"""Chooses node ids out of those of a grid, with the random stream it is given."""


@dataclass(frozen=True)
class FractionSampler:
    """A fraction of the nodes, uniformly without replacement.

    The size is ``max(int(nodes * fraction), min_nodes, 1)``; a fraction of zero chooses nobody.
    The same random stream and the same nodes give the same choice, which is in rising order.

    Parameters
    ----------
    fraction : float
        In ``[0, 1]``.
    min_nodes : int
        At least so many are chosen.
    min_available : int
        At least so many must be connected.
    wait_s : float
        How many seconds to wait for them.

    Raises
    ------
    ConfigError
        A parameter is out of its range.
    NotEnoughNodes
        Too few nodes are connected, when called.

    Examples
    --------
    >>> FractionSampler(fraction=0.1, min_nodes=2).size(nodes=50)
    5
    """

    fraction: float = 1.0
    min_nodes: int = 1
    min_available: int = 1
    wait_s: float = ROUND_TIMEOUT_S

    def __post_init__(self) -> None:
        if not is_number(self.fraction) or not 0 <= self.fraction <= 1:
            raise ConfigError(f"a fraction of nodes lies in [0, 1], got {self.fraction!r}")
        check_waiting(self.wait_s, min_nodes=self.min_nodes, min_available=self.min_available)

    def size(self, nodes: int) -> int:
        """Return how many of so many nodes are chosen."""
        if self.fraction == 0:
            return 0
        # Floating-point products fall short of whole numbers: 100 * 0.29 is 28.999999999999996.
        return max(int(nodes * self.fraction + 1e-9), self.min_nodes, 1)

    def __call__(self, grid: Grid, seeds: Seeds) -> list[int]:
        if self.fraction == 0:
            return []
        least = max(self.min_available, self.min_nodes, 1)
        nodes = sorted(grid.wait_for_nodes(least, self.wait_s))
        size = self.size(len(nodes))
        if size == len(nodes):
            return nodes
        chosen = seeds.numpy().choice(len(nodes), size, replace=False)
        return sorted(nodes[int(i)] for i in chosen)


def check_waiting(wait_s: float, **nodes: int) -> None:
    """Raise ``ConfigError`` unless so many nodes can be waited for, so many seconds."""
    for name, count in nodes.items():
        if not is_whole_number(count) or count < 0:
            raise ConfigError(f"a number of nodes is whole and not negative, got {name}={count!r}")
    if not is_number(wait_s) or wait_s < 0:
        raise ConfigError(f"wait_s is a number of seconds, not negative, got {wait_s!r}")
