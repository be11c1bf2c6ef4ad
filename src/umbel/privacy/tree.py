"""Tree aggregation: prefix sums out of the noisy sums of dyadic blocks of rounds (DP-FTRL)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.privacy.checks import whole
from umbel.privacy.noisematrix import Draw
from umbel.privacy.participation import MinSeparation
from umbel.updates import Arrays


@dataclass(frozen=True)
class TreeAggregation:
    """The factor whose rows are the blocks of a binary tree over the rounds.

    Every block of ``2^h`` rounds that is complete gets noise of its own, and a prefix sum is put
    together from the fewest blocks. Each block's noise is averaged with that of the blocks in it,
    by inverse variance: Honaker's estimator from below, which nearly halves the variance. A stream
    keeps the noise of ``log2(rounds)`` blocks.

    Kairouz et al. 2021, arXiv:2103.00039, algorithm 1 and appendix B.

    Parameters
    ----------
    rounds : int
        How many rounds are covered.
    restart_every : int, optional
        Begin a new tree after so many rounds: units that come back then meet blocks of other rounds
        alone. A power of two is best. Without it there is one tree.

    Raises
    ------
    ConfigError
        A number is below 1.

    Examples
    --------
    >>> tree = TreeAggregation(rounds=128)
    >>> round(tree.sensitivity(MinSeparation(128)) ** 2, 3)  # one block on each of 8 floors
    8.0
    """

    rounds: int
    restart_every: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounds", whole(self.rounds, "rounds"))
        if self.restart_every is not None:
            object.__setattr__(self, "restart_every", whole(self.restart_every, "restart_every"))

    def sensitivity(self, participation: MinSeparation) -> float:
        """Return a bound on how far one unit moves ``C x``.

        The bound adds up the worst case of each floor of the tree. It is exact where one pattern is
        the worst on all floors, as for one time, or for a separation that is a power of two.
        """
        times = participation.most(self.rounds)
        total = 0
        for height, blocks in enumerate(self._blocks()):
            met = participation.most(1 << height)
            # Squares add up to most when as few blocks as can be hold as many rounds as can be.
            full = min(times // met, blocks)
            rest = times - full * met if full < blocks else 0
            total += full * met**2 + rest**2
        return math.sqrt(total)

    def repeat_sensitivity(self, participation: MinSeparation) -> float:
        """Return how far one unit moves the blocks that end in one round, whichever it is."""
        floors = range(len(self._blocks()))
        return math.sqrt(sum(participation.most(1 << height) ** 2 for height in floors))

    def variances(self) -> npt.NDArray[np.float64]:
        """Return the variance of the noise in each prefix sum, for independent noise of 1."""
        span, own = self._span, block_variances(self._span.bit_length())
        local = [sum(own[h] for h in range(t.bit_length()) if t >> h & 1) for t in range(span + 1)]
        ended, t = np.divmod(np.arange(1, self.rounds + 1), span)
        return np.asarray(ended * local[span] + np.array(local)[t])

    def stream(self) -> TreeStream:
        """Return the noise from the first round on."""
        return TreeStream(self._span)

    @property
    def _span(self) -> int:
        return min(self.rounds, self.restart_every or self.rounds)

    def _blocks(self) -> list[int]:
        """Return the number of complete blocks of each height, over all trees."""
        trees, rest = divmod(self.rounds, self._span)
        heights = range(self._span.bit_length())
        return [trees * (self._span >> height) + (rest >> height) for height in heights]


class TreeStream:
    """What the noise of the prefix sum changes by in each round.

    Parameters
    ----------
    span : int
        After how many rounds a new tree begins.
    """

    def __init__(self, span: int) -> None:
        self._span = span
        self._variances = block_variances(span.bit_length())
        self._round = 0
        self._pending: list[tuple[int, Arrays]] = []

    def step(self, draw: Draw) -> Arrays:
        """Return what is added to the next round's update; it is not to be changed."""
        if self._round == self._span:
            # The noise of the tree that is over stays in the sums.
            self._round, self._pending = 0, []
        self._round += 1
        block, height, ended = draw(0), 0, []
        while self._pending and self._pending[-1][0] == height:
            left = self._pending.pop()[1]
            ended.append(left)
            height += 1
            whole_block = draw(height)
            weight = self._variances[height]
            for name, values in whole_block.items():
                # By inverse variance: 1 for its own, 2 v for the halves; v' = 2 v / (1 + 2 v).
                kind = values.dtype.type
                values *= kind(weight)
                values += kind(1 - weight) * (left[name] + block[name])
            block = whole_block
        self._pending.append((height, block))
        change = {name: values.copy() for name, values in block.items()}
        for left in ended:
            for name, values in change.items():
                values -= left[name]
        return change


def block_variances(heights: int) -> list[float]:
    """Return the variance of the estimates of blocks of ``1, 2, 4, ...`` rounds.

    Examples
    --------
    >>> [round(v, 3) for v in block_variances(4)]
    [1.0, 0.667, 0.571, 0.533]
    """
    variances = [1.0]
    while len(variances) < heights:
        halves = 2 * variances[-1]
        variances.append(halves / (1 + halves))
    return variances
