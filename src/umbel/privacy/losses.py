"""Privacy loss distributions: one release's on a grid, and that of many, composed by spectra.

The loss of releases together is the sum of their losses, so its distribution is a convolution, and
the logarithm of its spectrum is a sum: one more release of a kind that is known costs one inverse
Fourier transform, however many came before. (Koskela, Jälkö and Honkela 2020, arXiv:1906.03049.)
All that is approximated here errs on the side of more loss.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Curve = Callable[[Floats], Floats]
"""Gives the δ of one release at each ε."""

INTERVAL = 1e-4
"""The finest grid of losses, in units of ε."""

_LARGEST_STEP = 1024
"""Coarser grids have every second, fourth, ... place of the finest, up to this."""

_CURVE_PLACES, _WINDOW_PLACES = 1 << 17, 1 << 16
"""With more places than that, a grid is made coarser: an error of some 1e-5 of ε."""

_TAIL = 1e-15
"""So much of the probability may lie outside of the window; it is counted as infinite loss."""

_ORDERS = 0.1 * 1.5 ** np.arange(24)
"""Where moments are taken for Chernoff's bound on the tails."""


@dataclass(frozen=True)
class OnGrid:
    """The distribution of one release's loss on one grid.

    Attributes
    ----------
    first, centre : int
        The place of the least loss, and of the mean: ``place * step * INTERVAL`` is a loss.
    mass : ndarray of float64
        The probability of each place from the first on.
    log_finite : float
        The logarithm of the probability that the loss is finite.
    log_moments : ndarray of float64, shape (2, orders)
        ``log E exp(t loss)`` and ``log E exp(-t loss)`` at each order ``t``.
    """

    first: int
    centre: int
    mass: Floats
    log_finite: float
    log_moments: Floats
    _spectra: dict[int, NDArray[np.complex128]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, step: int, first: int, mass: Floats, infinite: float) -> OnGrid:
        """Return the distribution with these probabilities; some may be rounded below 0."""
        mass = np.maximum(mass, 0)
        losses = np.arange(first, first + mass.size) * (step * INTERVAL)
        with np.errstate(divide="ignore"):
            logs = np.log(mass)
        moments = [[_log_sum(t * losses + logs) for t in sign * _ORDERS] for sign in (1, -1)]
        centre = round(float(mass @ losses) / (step * INTERVAL))
        return cls(first, centre, mass, math.log1p(-infinite), np.array(moments))

    def log_spectrum(self, size: int) -> NDArray[np.complex128]:
        """Return the logarithm of the Fourier transform modulo a size, around the centre.

        Around it phases are small, so that their multiples keep their digits.
        """
        if size not in self._spectra:
            places = (np.arange(self.mass.size) + (self.first - self.centre)) % size
            folded = np.bincount(places, self.mass, size)
            self._spectra.clear()  # windows grow; the smaller one does not come again
            # 1e-300 stands for zero, whose logarithm would make NaN of what is multiplied.
            self._spectra[size] = np.log(np.fft.rfft(folded) + 1e-300)
        return self._spectra[size]


class Losses(ABC):
    """The distribution of a privacy loss in one direction: with a unit, beside without it.

    Attributes
    ----------
    step : int
        The finest grid that it is known on.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self._known: dict[int, OnGrid] = {}

    def on(self, step: int) -> OnGrid:
        """Return the distribution on the grid of every so many places, a multiple of ``step``."""
        if step not in self._known:
            self._known[step] = self._on(step)
        return self._known[step]

    @abstractmethod
    def _on(self, step: int) -> OnGrid: ...


class LossesOfOne(Losses):
    """The privacy loss of one release.

    Discretised by connecting the dots (Doroshenko et al. 2022, arXiv:2207.04380, algorithm 1):
    never less loss than there is, at every ε and after composition.

    Parameters
    ----------
    curve : callable
        The δ of the release at each ε.
    least, largest : float
        Between these losses lies all but a negligible part.
    """

    def __init__(self, curve: Curve, least: float, largest: float) -> None:
        unit = INTERVAL * _LARGEST_STEP
        first, last = (
            _LARGEST_STEP * n for n in (math.floor(least / unit), math.ceil(largest / unit))
        )
        super().__init__(_step_for(last - first, _CURVE_PLACES))
        self._first = first
        places = np.arange(first, last + 1, self.step)
        self._deltas: Floats = np.minimum.accumulate(curve(np.asarray(places * INTERVAL)))

    def _on(self, step: int) -> OnGrid:
        deltas, width = self._deltas[:: step // self.step], step * INTERVAL
        slopes = np.diff(deltas)
        mass = np.empty(deltas.size)
        mass[0] = 1 - deltas[0] + slopes[0] / math.expm1(width)
        mass[1:-1] = (slopes[1:] - math.exp(width) * slopes[:-1]) / math.expm1(width)
        mass[-1] = slopes[-1] / math.expm1(-width)
        return OnGrid.of(step, self._first // step, mass, float(deltas[-1]))


class KnownLosses(Losses):
    """A privacy loss whose distribution is known on a grid; on coarser ones it is rounded up.

    Parameters
    ----------
    step, first : int
        The grid, and the place of the least loss on it.
    mass : ndarray of float64
        The probability of each place from the first on.
    infinite : float
        The probability of infinite loss.
    """

    def __init__(self, step: int, first: int, mass: Floats, infinite: float) -> None:
        super().__init__(step)
        self._first, self._mass, self._infinite = first, mass, infinite

    def _on(self, step: int) -> OnGrid:
        times = step // self.step
        first = -(-self._first // times)
        places = -(-np.arange(self._first, self._first + self._mass.size) // times) - first
        mass = np.bincount(places, self._mass).astype(np.float64)
        return OnGrid.of(step, first, mass, self._infinite)


class Composed:
    """The privacy loss of many releases together, in one direction.

    Parameters
    ----------
    parts : sequence of (Losses, int)
        What each adds up, and how often; at least one.

    Examples
    --------
    >>> def curve(epsilon):  # of randomised response that tells the truth with probability 0.75
    ...     return np.clip(0.75 - 0.25 * np.exp(epsilon), np.maximum(0, -np.expm1(epsilon)), 1)
    >>> both = Composed([(LossesOfOne(curve, -math.log(3), math.log(3)), 2)])
    >>> 0 <= both.epsilon(delta=1e-9) - 2 * math.log(3) < 2 * INTERVAL
    True
    """

    def __init__(self, parts: Sequence[tuple[Losses, int]]) -> None:
        self._parts = parts

    def epsilon(self, delta: float) -> float:
        """Return the least ε of zero or more at which the δ is this one or less."""
        losses, upper, lower, infinite = self._tail
        if infinite > delta:
            return math.inf
        if not losses.size:
            return 0.0
        after = upper[1:] - np.exp(losses) * lower[1:]  # the δ at each loss
        place = int(np.argmax(after <= delta))
        # Below that loss, and from the one before it on, δ is upper - exp(ε) lower.
        excess = float(upper[place] - delta)
        if excess <= 0:
            return 0.0
        return min(float(losses[place]), max(0.0, math.log(excess / lower[place])))

    def delta(self, epsilon: float) -> float:
        """Return the δ at an ε of zero or more."""
        losses, upper, lower, infinite = self._tail
        place = int(np.searchsorted(losses, epsilon, side="right"))
        if place == losses.size:
            return infinite
        return min(1.0, max(infinite, float(upper[place] - math.exp(epsilon) * lower[place])))

    def flat(self) -> KnownLosses:
        """Return the same as a part of further compositions, which keeps none of its own."""
        step, first, mass, infinite = self._masses
        return KnownLosses(step, first, np.maximum(mass, 0), infinite)

    @cached_property
    def _tail(self) -> tuple[Floats, Floats, Floats, float]:
        """The losses above 0, what they and all above weigh, and what is infinite.

        The weight is the probability with the unit, and without it. Both end with that of nothing.
        """
        step, first, mass, infinite = self._masses
        losses: Floats = np.arange(first, first + mass.size, dtype=np.float64) * (step * INTERVAL)
        mass, losses = mass[losses > 0], losses[losses > 0]
        upper = infinite + _from_the_end(mass)
        return losses, upper, _from_the_end(mass * np.exp(-losses)), infinite

    @cached_property
    def _masses(self) -> tuple[int, int, Floats, float]:
        """The grid, the first place of the window, the probabilities, and what is infinite."""
        step = max(losses.step for losses, _ in self._parts)
        first, last = self._window(step)
        step = _step_for((last - first + 1) * step, _WINDOW_PLACES, step)
        first, last = self._window(step)
        size = 1 << (last - first).bit_length()
        total = np.zeros(size // 2 + 1, np.complex128)
        centre, log_finite = 0, 0.0
        for losses, count in self._parts:
            grid = losses.on(step)
            total += grid.log_spectrum(size) * count
            centre += grid.centre * count
            log_finite += grid.log_finite * count
        around = np.fft.irfft(np.exp(total), size)
        start = (first - centre) % size
        mass = np.concatenate([around[start:], around[:start]])[: last - first + 1]
        return step, first, mass, _TAIL - math.expm1(log_finite)

    def _window(self, step: int) -> tuple[int, int]:
        """Return the first and the last place of what is kept of a grid."""
        moments = sum(losses.on(step).log_moments * count for losses, count in self._parts)
        above, below = ((moments + math.log(2 / _TAIL)) / _ORDERS).min(axis=1)
        width = step * INTERVAL
        return math.floor(-below / width), math.ceil(above / width)


def _step_for(places: int, most: int, least: int = 1) -> int:
    """Return the smallest step, a power of two, with which so many places are few enough."""
    step = least
    while places > most * step and step < _LARGEST_STEP:
        step *= 2
    return step


def _log_sum(logs: Floats) -> float:
    """Return the logarithm of a sum whose terms' logarithms are given."""
    largest = float(logs.max())
    return largest + math.log(float(np.exp(logs - largest).sum()))


def _from_the_end(values: Floats) -> Floats:
    """Return the sums of the values from each place on, and 0 at the end."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)
