"""A sampler that gives every node rest between its rounds."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.base import ROUND_TIMEOUT_S, ConfigError, Seeds, is_whole_number
from umbel.serverapp.grid import Grid
from umbel.serverapp.sampling import check_waiting


@dataclass(frozen=True)
class MinSeparationSampler:
    """Nodes in turns: who took part in a round does so again after ``separation`` rounds or never.

    Each node has a turn of its own, ``0 <= turn < separation``, and is chosen in those rounds alone
    that leave this rest when divided by the separation. The turn follows from the run's seed and
    the node's id and from nothing else. So no list of who took part is kept, and the separation
    holds whoever joins or leaves, when a round is repeated, and after a resume. Of ``separation``
    successive ids each has another turn, and so the cohorts are about equal.

    It is the participation that correlated noise is accounted for; chance within a turn is not
    counted on.

    Parameters
    ----------
    separation : int
        In rounds, at least 1; 1 lets everybody take part in every round.
    size : int, optional
        How many of those whose turn it is are chosen at most, uniformly; all of them by default.
    min_available : int
        At least so many nodes must be connected.
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
    >>> sampler = MinSeparationSampler(separation=10, size=20)
    >>> sampler.turn(7, Seeds(1)) == sampler.turn(8, Seeds(1))
    False
    """

    separation: int
    size: int | None = None
    min_available: int = 1
    wait_s: float = ROUND_TIMEOUT_S

    def __post_init__(self) -> None:
        numbers = (self.separation, 1 if self.size is None else self.size, self.min_available)
        if not all(is_whole_number(number) and number >= 1 for number in numbers):
            raise ConfigError(
                "separation, size and min_available are whole numbers of at least 1, got "
                f"{self.separation!r}, {self.size!r} and {self.min_available!r}"
            )
        check_waiting(self.wait_s)

    def turn(self, node: int, seeds: Seeds) -> int:
        """Return the turn of a node in a run with these seeds."""
        block, place = divmod(node, self.separation)
        return (place + seeds.child("turns", block).integer()) % self.separation

    def __call__(self, grid: Grid, seeds: Seeds) -> list[int]:
        run = grid.run
        now = run.server_round % self.separation
        connected = grid.wait_for_nodes(self.min_available, self.wait_s)
        nodes = sorted(node for node in connected if self.turn(node, run.seeds) == now)
        if self.size is None or len(nodes) <= self.size:
            return nodes
        chosen = seeds.numpy().choice(len(nodes), self.size, replace=False)
        return sorted(nodes[int(i)] for i in chosen)
