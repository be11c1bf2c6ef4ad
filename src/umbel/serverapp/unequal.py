"""Samplers that do not choose a fixed number of nodes uniformly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from umbel.base import ROUND_TIMEOUT_S, ConfigError, NotEnoughNodes, Seeds, is_number
from umbel.serverapp.grid import Grid
from umbel.serverapp.sampling import check_waiting


@dataclass(frozen=True)
class PoissonSampler:
    """Each node by itself, with the same probability; the cohort's size is left to chance.

    It is the sampling that differential privacy's amplification theorems speak of. A cohort may be
    empty: then the round leaves the phase out.

    Parameters
    ----------
    rate : float
        The probability, in ``[0, 1]``.
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
    >>> PoissonSampler(rate=0.1).rate
    0.1
    """

    rate: float
    min_available: int = 1
    wait_s: float = ROUND_TIMEOUT_S

    def __post_init__(self) -> None:
        if not is_number(self.rate) or not 0 <= self.rate <= 1:
            raise ConfigError(f"a probability lies in [0, 1], got rate={self.rate!r}")
        check_waiting(self.wait_s, min_available=self.min_available)

    def __call__(self, grid: Grid, seeds: Seeds) -> list[int]:
        nodes = sorted(grid.wait_for_nodes(self.min_available, self.wait_s))
        drawn = seeds.numpy().random(len(nodes)) < self.rate
        return [node for node, chosen in zip(nodes, drawn, strict=True) if chosen]


@dataclass(frozen=True)
class WeightedSampler:
    """So many nodes without replacement, each draw in proportion to the weights of those left.

    Parameters
    ----------
    size : int
        How many are chosen.
    weights : mapping of int to float
        The weight of each node, not negative; a node that is not in it, or whose weight is zero,
        is never chosen. If it is empty, all nodes weigh the same.
    wait_s : float
        How many seconds to wait for ``size`` nodes.

    Raises
    ------
    ConfigError
        A parameter is out of its range.
    NotEnoughNodes
        Fewer than ``size`` nodes are connected or have a weight, when called.

    Examples
    --------
    >>> sampler = WeightedSampler(2, weights={0: 1.0, 1: 5.0, 2: 0.0, 3: 2.5})
    """

    size: int
    weights: Mapping[int, float]
    wait_s: float = ROUND_TIMEOUT_S

    def __post_init__(self) -> None:
        check_waiting(self.wait_s, size=self.size)
        if self.size < 1:
            raise ConfigError(f"at least one node is chosen, got size={self.size}")
        if not isinstance(self.weights, Mapping):
            raise ConfigError(
                f"weights are a mapping from nodes to numbers, got {self.weights!r}",
                hint="{0: 1.0, 1: 5.0}",
            )
        wrong = [n for n, w in self.weights.items() if not is_number(w) or w < 0]
        if wrong:
            raise ConfigError(
                f"weights are finite and not negative, unlike that of node {wrong[0]!r}"
            )

    def __call__(self, grid: Grid, seeds: Seeds) -> list[int]:
        nodes = sorted(grid.wait_for_nodes(self.size, self.wait_s))
        if not self.weights:
            drawn = seeds.numpy().choice(len(nodes), self.size, replace=False)
            return sorted(nodes[int(i)] for i in drawn)
        weights = np.array([self.weights.get(node, 0.0) for node in nodes])
        positive = int(np.count_nonzero(weights))
        if positive < self.size:
            raise NotEnoughNodes(
                f"{self.size} nodes are to be chosen and {positive} have a positive weight",
                hint="give more nodes a weight, or choose fewer",
            )
        # The keys of Efraimidis and Spirakis 2006: the largest are a weighted sample.
        with np.errstate(divide="ignore"):
            keys = np.log(seeds.numpy().random(len(nodes))) / weights
        best = np.argsort(-keys, kind="stable")[: self.size]
        return sorted(nodes[int(i)] for i in best)
