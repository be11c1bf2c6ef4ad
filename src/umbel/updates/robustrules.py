"""Rules that make one model out of replies some of which may lie, over replies on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from umbel.base import AggregationError
from umbel.updates.arrays import NDArray
from umbel.updates.spill import Stack, Vectors


class Rule(ABC):
    """Makes one model out of a stack of replies; it holds settings, never data.

    Attributes
    ----------
    measures : str
        A metric that the rule wants of each reply; none if empty.
    """

    measures: str = ""

    @abstractmethod
    def __call__(self, stack: Stack) -> Vectors:
        """Return the model.

        Raises
        ------
        AggregationError
            There are too few replies for this rule.
        """


@dataclass(frozen=True)
class MedianRule(Rule):
    """The median of each coordinate. Yin et al. 2018, arXiv:1803.01498, definition 1."""

    def __call__(self, stack: Stack) -> Vectors:
        return stack.map_columns(_median)


@dataclass(frozen=True)
class TrimmedMeanRule(Rule):
    """The mean of each coordinate without its ``int(beta n)`` least and greatest values.

    Yin et al. 2018, arXiv:1803.01498, definition 2.
    """

    beta: float

    def __call__(self, stack: Stack) -> Vectors:
        # Floating-point products fall short of whole numbers: 100 * 0.29 is 28.999999999999996.
        cut = int(stack.rows * self.beta + 1e-9)
        if cut == 0:
            return stack.combine(np.full(stack.rows, 1 / stack.rows))
        return stack.map_columns(lambda columns: _mean(columns[:, cut:-cut]))


@dataclass(frozen=True)
class KrumRule(Rule):
    """The weighted mean of the ``selected`` replies that lie closest to others.

    A reply's score is the sum of its ``n - f - 2`` least squared distances from others. Blanchard
    et al. 2017, arXiv:1703.02757, section 4.
    """

    malicious: int
    selected: int

    def __call__(self, stack: Stack) -> Vectors:
        _require(stack.rows, self.malicious, 2 * self.malicious + 3, "Krum", "2 f + 3")
        order = krum_order(stack.squared_distances(), self.malicious)
        kept = np.sort(order[: self.selected])
        coefficients = np.zeros(stack.rows)
        coefficients[kept] = stack.weights[kept]
        total = coefficients.sum()
        if not total > 0:
            raise AggregationError(
                "the weights of all replies that Krum selected are zero, so there is no mean"
            )
        return stack.combine(coefficients / total)


@dataclass(frozen=True)
class BulyanRule(Rule):
    """Krum until ``n - 2 f`` replies are selected, then the values closest to the median.

    Guerraoui et al. (El Mhamdi) 2018, arXiv:1802.07927, section 4: each selected reply leaves the
    set before the next is selected; then, for each coordinate, the mean of the ``n - 4 f`` values
    that are closest to the median of the selected ones.
    """

    malicious: int

    def __call__(self, stack: Stack) -> Vectors:
        f = self.malicious
        _require(stack.rows, f, 4 * f + 3, "Bulyan", "4 f + 3")
        squared = stack.squared_distances()
        left = list(range(stack.rows))
        chosen: list[int] = []
        while len(chosen) < stack.rows - 2 * f:
            best = krum_order(squared[np.ix_(left, left)], f)[0]
            chosen.append(left.pop(int(best)))
        keep = len(chosen) - 2 * f
        return stack.map_columns(lambda columns: _around_median(columns, keep), sorted(chosen))


@dataclass(frozen=True)
class GeometricMedianRule(Rule):
    """The point with the least weighted sum of distances, by smoothed Weiszfeld steps.

    Pillutla et al. 2022, arXiv:1912.13445, algorithm 2: ``v <- sum_k b_k x_k / sum_k b_k`` with
    ``b_k = a_k / max(nu, ||v - x_k||)``, from the weighted mean.
    """

    nu: float
    iterations: int

    def __call__(self, stack: Stack) -> Vectors:
        total = stack.weights.sum()
        if not total > 0:
            raise AggregationError("the weights of all replies are zero, so there is no median")
        alpha = stack.weights / total
        squared, place = stack.squared_distances(), alpha
        for _ in range(self.iterations):
            beta = alpha / np.maximum(self.nu, distances_from(place, squared))
            place = beta / beta.sum()
        return stack.combine(place)


@dataclass(frozen=True)
class CenteredClippingRule(Rule):
    """``v <- v + mean((x_k - v) min(1, tau / ||x_k - v||))``, from the model that was sent.

    Karimireddy et al. 2021, arXiv:2012.10333, equation 4.
    """

    tau: float
    iterations: int

    def __call__(self, stack: Stack) -> Vectors:
        squared = stack.squared_distances(with_origin=True)
        place = np.zeros(stack.rows + 1)
        place[-1] = 1.0
        for _ in range(self.iterations):
            factors = _clip_factors(distances_from(place, squared)[:-1], self.tau) / stack.rows
            place *= 1 - factors.sum()
            place[:-1] += factors
        return stack.combine(place)


@dataclass(frozen=True)
class NormBoundRule(Rule):
    """The weighted mean of updates none of which is longer than ``max_norm``.

    Sun et al. 2019, arXiv:1911.07963, section 4.
    """

    max_norm: float

    def __call__(self, stack: Stack) -> Vectors:
        total = stack.weights.sum()
        if not total > 0:
            raise AggregationError("the weights of all replies are zero, so there is no mean")
        norms = np.sqrt(stack.squared_distances_to_origin())
        factors = _clip_factors(norms, self.max_norm) * stack.weights / total
        rest = 1 - factors.sum() if (norms > self.max_norm).any() else 0.0
        return stack.combine(np.append(factors, rest))


@dataclass(frozen=True)
class FairRule(Rule):
    """``x <- x - sum_k d_k / sum_k h_k``, where clients with a greater loss count for more.

    With ``L = 1 / learning_rate`` and the loss ``F_k``: ``d_k = L F_k^q (x - x_k)`` and
    ``h_k = q F_k^(q-1) ||L (x - x_k)||^2 + L F_k^q``. Li et al. 2020, arXiv:1905.10497,
    algorithm 2.
    """

    learning_rate: float
    q: float
    measures: str

    def __call__(self, stack: Stack) -> Vectors:
        lipschitz = 1 / self.learning_rate
        loss = stack.measured + 1e-10  # a loss of zero has no negative power
        powers = loss**self.q
        squared = lipschitz**2 * stack.squared_distances_to_origin() if self.q else 0.0
        steps = self.q * loss ** (self.q - 1) * squared + lipschitz * powers
        factors = lipschitz * powers / steps.sum()
        return stack.combine(np.append(factors, 1 - factors.sum() if self.q else 0.0))


def krum_order(squared: NDArray, malicious: int) -> NDArray:
    """Return the rows of a matrix of squared distances from Krum's best to its worst.

    Two rows that are each other's nearest have the same score if that is all that counts: then the
    one that is closer to all is better, so that the order of replies decides nothing.

    Examples
    --------
    >>> points = np.array([0.0, 1.0, 2.0, 9.0])
    >>> krum_order((points[:, None] - points) ** 2, malicious=1).tolist()
    [2, 1, 0, 3]
    """
    count = len(squared)
    others = squared + np.diag(np.full(count, np.inf))
    nearest = min(max(1, count - malicious - 2), max(1, count - 1))
    scores = np.sort(others, axis=1)[:, :nearest].sum(axis=1)
    order: NDArray = np.lexsort((squared.sum(axis=1), scores))
    return order


def distances_from(place: NDArray, squared: NDArray) -> NDArray:
    """Return the distance of each row from the affine combination ``place`` of all rows.

    ``||x_k - sum_j c_j x_j||^2 = sum_j c_j D_kj - (c' D c) / 2`` if the coefficients sum to one.
    """
    products = squared @ place
    distances: NDArray = np.sqrt(np.maximum(products - 0.5 * (place @ products), 0.0))
    return distances


def _require(count: int, malicious: int, least: int, name: str, formula: str) -> None:
    if malicious and count < least:
        raise AggregationError(
            f"{name} against f = {malicious} malicious nodes needs n >= {formula} = {least} "
            f"replies, and {count} came",
            hint="sample more nodes, or lower num_malicious_nodes",
        )


def _clip_factors(norms: NDArray, bound: float) -> NDArray:
    factors: NDArray = bound / np.maximum(norms, bound)
    return factors


def _mean(columns: NDArray) -> NDArray:
    mean: NDArray = columns.mean(axis=1, dtype=columns.dtype)
    return mean


def _median(columns: NDArray) -> NDArray:
    count = columns.shape[1]
    if count % 2:
        return columns[:, count // 2]
    middle: NDArray = columns[:, count // 2 - 1] * 0.5 + columns[:, count // 2] * 0.5
    return middle


def _around_median(columns: NDArray, keep: int) -> NDArray:
    """Return the mean of the values of sorted columns that are closest to their median."""
    median = _median(columns)
    # Values are sorted, so the closest ones are neighbours: the best of a few windows.
    best = np.zeros(len(columns), np.intp)
    least = np.full(len(columns), np.inf, columns.dtype)
    for first in range(columns.shape[1] - keep + 1):
        reach = np.maximum(median - columns[:, first], columns[:, first + keep - 1] - median)
        better = reach < least
        best[better], least[better] = first, reach[better]
    index = best[:, None] + np.arange(keep)
    return _mean(np.take_along_axis(columns, index, axis=1))
