"""Accountants: what a list of releases comes to, as ε and δ, counted by ``dp_accounting``."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol, get_args

import numpy as np

from umbel.base import ConfigError, MissingDependency
from umbel.privacy.checks import small_chance, whole
from umbel.privacy.events import (
    Adjacency,
    CorrelatedEvent,
    DiscreteGaussianEvent,
    Event,
    FixedSize,
    GaussianEvent,
    LaplaceEvent,
    NoAmplification,
    Poisson,
    SkellamEvent,
)
from umbel.privacy.gaussian import gaussian_delta, gaussian_epsilon
from umbel.privacy.losses import Composed, Losses, LossesOfOne
from umbel.privacy.renyi import Curve, discrete_gaussian_curve, poisson_curve, skellam_curve

AccountantName = Literal["pld", "rdp"]

PLD_MAX_EPSILON, PLD_MIN_NOISE = 100.0, 0.1
"""Beyond these a privacy loss distribution takes gigabytes to say that there is no privacy."""


class Accountant(Protocol):
    """Adds up releases. It never changes: ``compose`` returns another one.

    Its numbers are upper bounds: the true ε is never above what it says.
    """

    def compose(self, event: Event, count: int = 1) -> Accountant:
        """Return an accountant that has counted so many more of an event.

        Raises ``ConfigError`` if it has no bound for the event under its adjacency.
        """

    def epsilon(self, delta: float) -> float:
        """Return the ε of all releases at a δ in (0, 1); 0 before the first."""

    def delta(self, epsilon: float) -> float:
        """Return the δ of all releases at an ε of zero or more."""


def make_accountant(name: AccountantName, adjacency: Adjacency = "add-or-remove-one") -> Accountant:
    """Return an accountant that has counted nothing yet.

    Parameters
    ----------
    name : {"pld", "rdp"}
        Privacy loss distributions: tight, some 5 ms a question. Rényi divergences:
        ε some 10 to 20 % larger, a millisecond, and bounds for more mechanisms.
    adjacency : {"add-or-remove-one", "zero-out", "replace-one"}
        Which data sets are neighbours.

    Examples
    --------
    >>> accountant = make_accountant("rdp").compose(GaussianEvent(5.0, Poisson(0.01)), 100)
    >>> round(accountant.epsilon(delta=1e-6), 4)
    0.0903
    """
    match name:
        case "pld":
            return PldAccountant(adjacency)
        case "rdp":
            return RdpAccountant(adjacency)
    raise ConfigError(f"there is no accountant {name!r}", hint='"pld" or "rdp"')


class RdpAccountant(Accountant):
    """Counts Rényi divergences, which add up (Mironov 2017, arXiv:1702.07476).

    The orders and the way from divergences to ε are those of ``dp_accounting``.

    Parameters
    ----------
    adjacency : {"add-or-remove-one", "zero-out", "replace-one"}
        Which data sets are neighbours.

    Examples
    --------
    >>> accountant = RdpAccountant().compose(GaussianEvent(2.0), 4)
    >>> accountant.epsilon(1e-5) == RdpAccountant().compose(GaussianEvent(1.0)).epsilon(1e-5)
    True
    """

    def __init__(self, adjacency: Adjacency = "add-or-remove-one") -> None:
        self.adjacency = _known(adjacency)
        self._counts: dict[Event, tuple[int, Curve]] = {}

    def compose(self, event: Event, count: int = 1) -> RdpAccountant:
        before, curve = self._counts.get(event) or (0, _rdp_curve(event, self.adjacency))
        more = RdpAccountant(self.adjacency)
        more._counts = self._counts | {event: (before + whole(count, "count"), curve)}
        return more

    def epsilon(self, delta: float) -> float:
        rdp = _library().rdp.rdp_privacy_accountant
        return float(rdp.compute_epsilon(self.orders, self.divergences, small_chance(delta))[0])

    def delta(self, epsilon: float) -> float:
        rdp = _library().rdp.rdp_privacy_accountant
        return float(rdp.compute_delta(self.orders, self.divergences, _not_negative(epsilon))[0])

    @property
    def orders(self) -> list[float]:
        """The orders at which divergences are counted."""
        return _orders()

    @cached_property
    def divergences(self) -> Curve:
        """The sum of the divergences of all releases, at each of the orders."""
        total = np.zeros(len(self.orders))
        for count, curve in self._counts.values():
            total += count * curve
        return total


class PldAccountant(Accountant):
    """Counts privacy loss distributions (Doroshenko et al. 2022, arXiv:2207.04380).

    Gaussians without amplification are one Gaussian, which is counted exactly (Balle and Wang 2018,
    arXiv:1805.06530). Of others the loss of one release is made once, in some 0.3 s; from there on
    a question after each release takes some 5 ms, as often as it is asked. Where there is no
    privacy to speak of (ε above 100, or sampled Gaussians with a noise multiplier below 0.1) it
    gives the Rényi bound.

    Parameters
    ----------
    adjacency : {"add-or-remove-one", "zero-out", "replace-one"}
        Which data sets are neighbours.

    Examples
    --------
    >>> round(PldAccountant().compose(GaussianEvent(1.0)).epsilon(1e-5), 4)
    4.3772
    """

    def __init__(self, adjacency: Adjacency = "add-or-remove-one") -> None:
        self.adjacency = _known(adjacency)
        self._renyi = RdpAccountant(adjacency)
        # One over the variance of the one Gaussian that all Gaussians without amplification are.
        self._precision = 0.0
        self._others: _Run | None = None
        self._is_faint = False
        self._epsilons: dict[float, float] = {}

    def compose(self, event: Event, count: int = 1) -> PldAccountant:
        if isinstance(event, SkellamEvent | DiscreteGaussianEvent):
            raise ConfigError(
                f"the PLD accountant has no bound for {event.kind} noise on vectors",
                hint='count it with accountant="rdp"',
            )
        if isinstance(event.sampling, FixedSize):
            raise ConfigError(
                "the PLD accountant has no bound for samples of a fixed size",
                hint='count them with accountant="rdp", or sample with Poisson',
            )
        more = PldAccountant(self.adjacency)
        more._renyi = self._renyi.compose(event, count)
        more._precision, more._others = self._precision, self._others
        more._is_faint = self._is_faint
        if (sigma := _plain_gaussian(event, self.adjacency)) is not None:
            more._precision += count / sigma**2
        elif self._others is not None and event == self._others.event:
            more._others = _Run(event, self._others.count + count, self._others.before)
        else:
            more._others = _Run(event, count, self._others)
            is_gaussian = isinstance(event, GaussianEvent)
            more._is_faint |= is_gaussian and event.noise_multiplier < PLD_MIN_NOISE
        return more

    def epsilon(self, delta: float) -> float:
        if small_chance(delta) not in self._epsilons:
            self._epsilons[delta] = self._epsilon(delta)
        return self._epsilons[delta]

    def delta(self, epsilon: float) -> float:
        _not_negative(epsilon)
        if self._others is None:
            return gaussian_delta(self._precision**-0.5, epsilon) if self._precision else 0.0
        if self._is_wide:
            return self._renyi.delta(epsilon)
        return max(losses.delta(epsilon) for losses in self._composed)

    def _epsilon(self, delta: float) -> float:
        if self._others is None:
            return gaussian_epsilon(self._precision**-0.5, delta) if self._precision else 0.0
        if self._is_wide:
            return self._renyi.epsilon(delta)
        return max(losses.epsilon(delta) for losses in self._composed)

    @cached_property
    def _is_wide(self) -> bool:
        return self._is_faint or self._renyi.epsilon(1e-10) > PLD_MAX_EPSILON

    @cached_property
    def _composed(self) -> Sequence[Composed]:
        """The losses of all releases: with a unit beside without it, and the other way."""
        both = [] if self._others is None else self._others.parts(self.adjacency)
        if self._precision:
            plain = _losses_of(GaussianEvent(self._precision**-0.5), "zero-out")
            both = [[*parts, (one, 1)] for parts, one in zip(both, plain, strict=True)]
        return [Composed(parts) for parts in both]


@dataclass(eq=False)
class _Run:
    """So many equal releases in a row, after those before them."""

    event: Event
    count: int
    before: _Run | None
    flat: Sequence[Losses] = ()
    """The losses of these and all before them, once others have followed and were asked for."""

    def parts(self, adjacency: Adjacency) -> list[list[tuple[Losses, int]]]:
        """Return what adds up to the losses of these and all before them, in both directions."""
        unknown = []
        at = self.before
        while at is not None and not at.flat:  # a loop: there may be thousands of runs
            unknown.append(at)
            at = at.before
        for run in reversed(unknown):
            run.flat = [Composed(parts).flat() for parts in run._with_before(adjacency)]
            if run.before is not None:
                run.before.flat = ()  # a megabyte that no later release needs
        return self._with_before(adjacency)

    def _with_before(self, adjacency: Adjacency) -> list[list[tuple[Losses, int]]]:
        own = [[(one, self.count)] for one in _losses_of(self.event, adjacency)]
        if self.before is not None:
            for parts, one in zip(own, self.before.flat, strict=True):
                parts.append((one, 1))
        return own


def _distance(adjacency: Adjacency) -> int:
    """Return how far neighbours are apart, in bounds on what one unit gives."""
    return 2 if adjacency == "replace-one" else 1


def _known(adjacency: Adjacency) -> Adjacency:
    if adjacency not in get_args(Adjacency):
        raise ConfigError(
            f"there is no adjacency {adjacency!r}", hint=f"one of {', '.join(get_args(Adjacency))}"
        )
    return adjacency


def _not_negative(epsilon: float) -> float:
    if not epsilon >= 0 or isinstance(epsilon, bool):  # NaN is not either
        raise ConfigError(f"epsilon is a number of zero or more, got {epsilon!r}")
    return epsilon


def _plain_gaussian(event: Event, adjacency: Adjacency) -> float | None:
    """Return the noise multiplier of an event that is a Gaussian without amplification."""
    match event:
        case GaussianEvent(multiplier, NoAmplification() | Poisson(rate=1.0)):
            return multiplier / _distance(adjacency)
        case CorrelatedEvent(multiplier, sensitivity):
            return multiplier / sensitivity / _distance(adjacency)
    return None


@lru_cache(maxsize=64)
def _losses_of(event: Event, adjacency: Adjacency) -> list[Losses]:
    """Return the losses of one release: with a unit beside without it, and the other way."""
    rate = event.sampling.rate if isinstance(event.sampling, Poisson) else 1.0
    kinds = {GaussianEvent: "GaussianPrivacyLoss", LaplaceEvent: "LaplacePrivacyLoss"}
    if not isinstance(event, GaussianEvent | LaplaceEvent):
        raise ConfigError(f"the PLD accountant has no bound for {event.kind} noise")
    mechanisms = _library().pld.privacy_loss_mechanism

    def losses(direction: Any) -> Losses:
        mechanism = getattr(mechanisms, kinds[type(event)])(
            event.noise_multiplier / _distance(adjacency),
            sampling_prob=rate,
            adjacency_type=direction,
        )
        ends = mechanism.connect_dots_bounds()
        curve = mechanism.get_delta_for_epsilon
        return LossesOfOne(curve, ends.epsilon_lower, ends.epsilon_upper)

    removed = losses(mechanisms.AdjacencyType.REMOVE)
    return [removed, removed if rate == 1 else losses(mechanisms.AdjacencyType.ADD)]


@lru_cache(maxsize=4096)
def _rdp_curve(event: Event, adjacency: Adjacency) -> Curve:
    """Return the Rényi divergence of one release at each of the orders."""
    orders = _orders()
    match event.sampling:
        case NoAmplification():
            return _unsampled(event, adjacency, orders)
        case Poisson(rate):
            if adjacency == "replace-one":
                raise ConfigError(
                    "Poisson sampling is accounted for neighbours with one unit more or less",
                    hint='adjacency="add-or-remove-one"',
                )
            if isinstance(event, GaussianEvent):
                dp = _library()
                return _composed(
                    dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(event.noise_multiplier)),
                    orders,
                )
            whole_orders = range(2, math.ceil(max(orders)) + 1)
            sampled = poisson_curve(rate, _unsampled(event, adjacency, whole_orders), orders)
            return np.minimum(sampled, _unsampled(event, adjacency, orders))
        case FixedSize(size, population):
            if adjacency != "replace-one" or not isinstance(event, GaussianEvent):
                raise ConfigError(
                    "samples of a fixed size are accounted for Gaussian noise, and for neighbours "
                    "that differ by the replacement of one unit",
                    hint='adjacency="replace-one", or sample with Poisson, or count on no '
                    "amplification",
                )
            dp = _library()
            gaussian = dp.GaussianDpEvent(event.noise_multiplier / _distance(adjacency))
            # This bound is about neighbouring samples, whose sums are two bounds apart.
            sampled = _composed(
                dp.SampledWithoutReplacementDpEvent(population, size, gaussian),
                orders,
                dp.NeighboringRelation.REPLACE_ONE,
            )
            # It exceeds the bound without sampling where nearly all are drawn. That holds as well:
            # a mixture of pairs is no easier to tell apart than the pairs.
            return np.minimum(sampled, _unsampled(event, adjacency, orders))


def _unsampled(event: Event, adjacency: Adjacency, orders: Sequence[float]) -> Curve:
    distance = _distance(adjacency)
    match event:
        case GaussianEvent(multiplier):
            return _composed(_library().GaussianDpEvent(multiplier / distance), orders)
        case CorrelatedEvent(multiplier, sensitivity):
            sigma = multiplier / sensitivity / distance
            return _composed(_library().GaussianDpEvent(sigma), orders)
        case LaplaceEvent(multiplier):
            return _composed(_library().LaplaceDpEvent(multiplier / distance), orders)
        case SkellamEvent():
            return skellam_curve(event, orders, distance)
        case DiscreteGaussianEvent():
            return discrete_gaussian_curve(event, orders, distance)


def _composed(event: Any, orders: Sequence[float], relation: Any = None) -> Curve:
    dp = _library()
    relation = relation or dp.NeighboringRelation.ADD_OR_REMOVE_ONE
    curve: Curve = dp.rdp.RdpAccountant(orders, relation).compose(event).rdp
    return curve


@lru_cache(maxsize=1)
def _orders() -> list[float]:
    return [float(order) for order in _library().rdp.rdp_privacy_accountant.DEFAULT_RDP_ORDERS]


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
    except ImportError as error:
        raise MissingDependency(
            "privacy accounting needs dp-accounting", hint='pip install "umbel[dp]"'
        ) from error
    # It warns of each order at which its series does not converge and leaves it out, which is
    # sound: the other orders still bound ε.
    logging.getLogger("absl").addFilter(lambda record: "failed to converge" not in record.msg)
    return dp_accounting
