"""Who takes part in a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from umbel.base import ROUND_TIMEOUT_S, ConfigError, Seeds
from umbel.serverapp.grid import Grid

Sampler = Callable[[Grid, Seeds], Sequence[int]]
"""Chooses node ids out of those of a grid, with the random stream it is given."""


@dataclass(frozen=True)
class FractionSampler:
    """A fraction of the nodes, uniformly without replacement.

    The size is ``max(int(nodes * fraction), min_nodes)``; a fraction of zero chooses nobody.

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
    """

    fraction: float = 1.0
    min_nodes: int = 1
    min_available: int = 1
    wait_s: float = ROUND_TIMEOUT_S

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ConfigError(f"a fraction of nodes lies in [0, 1], got {self.fraction}")
        if self.min_nodes < 0 or self.min_available < 0:
            raise ConfigError(
                f"numbers of nodes are not negative, got min_nodes={self.min_nodes}, "
                f"min_available={self.min_available}"
            )

    def __call__(self, grid: Grid, seeds: Seeds) -> list[int]:
        if self.fraction == 0:
            return []
        nodes = grid.wait_for_nodes(max(self.min_available, self.min_nodes), self.wait_s)
        size = max(int(len(nodes) * self.fraction), self.min_nodes)
        if size == len(nodes):
            return sorted(nodes)
        chosen = seeds.numpy().choice(len(nodes), size, replace=False)
        return sorted(nodes[int(i)] for i in chosen)
