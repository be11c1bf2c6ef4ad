"""Flower's names for privacy accounting, over the accountants of ``umbel.privacy``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

from umbel import privacy
from umbel.base import ConfigError
from umbel.flwr.missing import NotInUmbel

_VERSION = 1


class NeighboringRelation(StrEnum):
    """Which populations of clients are neighbours."""

    ADD_OR_REMOVE_ONE = "add-or-remove-one"
    REPLACE_ONE = "replace-one"


class SamplingMethod(StrEnum):
    """How the clients of a round are drawn."""

    POISSON = "poisson"
    WITHOUT_REPLACEMENT = "without-replacement"
    NO_AMPLIFICATION = "no-amplification"


_PAIRS = {
    SamplingMethod.POISSON: NeighboringRelation.ADD_OR_REMOVE_ONE,
    SamplingMethod.WITHOUT_REPLACEMENT: NeighboringRelation.REPLACE_ONE,
    SamplingMethod.NO_AMPLIFICATION: NeighboringRelation.ADD_OR_REMOVE_ONE,
}


@dataclass(frozen=True)
class PrivacyConfig:
    """What an accountant counts with.

    Parameters
    ----------
    target_delta : float
        The delta at which epsilon is told.
    population_size : int
        How many clients there are.
    neighboring_relation : NeighboringRelation
        Which populations are neighbours; each sampling method goes with one.
    sampling_method : SamplingMethod
        How clients are drawn.
    max_epsilon : float, optional
        The budget.

    Raises
    ------
    ConfigError
        A number is out of its range, or the relation and the method do not go together.
    """

    target_delta: float
    population_size: int
    neighboring_relation: NeighboringRelation
    sampling_method: SamplingMethod
    max_epsilon: float | None = None

    def __post_init__(self) -> None:
        method, relation = SamplingMethod(self.sampling_method), self.neighboring_relation
        if _PAIRS[method] != relation:
            raise ConfigError(
                f"{method.value} is accounted for neighbours by {_PAIRS[method].value}, "
                f"not by {relation}",
                hint=f"neighboring_relation=NeighboringRelation.{_PAIRS[method].name}",
            )
        privacy.PrivacyLedger(self.max_epsilon, self.target_delta)  # raises
        privacy.FixedSize(1, self.population_size)  # raises


@dataclass(frozen=True)
class GaussianPrivacyEvent:
    """A sum of clipped updates of some clients, with Gaussian noise.

    Parameters
    ----------
    noise_multiplier : float
        The noise's standard deviation over the bound on an update.
    sample_size, population_size : int
        How many of how many clients took part.

    Raises
    ------
    ConfigError
        A number is out of its range.
    """

    noise_multiplier: float
    sample_size: int
    population_size: int

    def __post_init__(self) -> None:
        privacy.GaussianEvent(self.noise_multiplier)  # raises
        privacy.FixedSize(self.sample_size, self.population_size)  # raises


@dataclass(frozen=True)
class PrivacySpent:
    """What all releases so far come to."""

    epsilon: float
    delta: float
    num_releases: int
    accounting_method: str
    optimal_order: float | None = None


class PrivacyAccountant(Protocol):
    """What the wrappers with fixed clipping ask of an accountant; an app may bring its own."""

    @property
    def config(self) -> PrivacyConfig:
        """What it counts with."""

    @property
    def num_releases(self) -> int:
        """How many releases it has counted."""

    def compose(self, event: GaussianPrivacyEvent, count: int = 1) -> None:
        """Count so many more of an event."""

    def get_epsilon(self, delta: float) -> float:
        """Return the epsilon of all releases at a delta."""

    def get_delta(self, epsilon: float) -> float:
        """Return the delta of all releases at an epsilon."""

    def get_privacy_spent(self, delta: float | None = None) -> PrivacySpent:
        """Return what all releases come to."""

    def would_exceed(
        self, event: GaussianPrivacyEvent, max_epsilon: float | None = None, count: int = 1
    ) -> bool:
        """Return whether so many more of an event would be over the budget."""

    def state_dict(self) -> dict[str, object]:
        """Return all that was counted, as plain values."""

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from what ``state_dict`` returned."""


class RdpAccountant:
    """Counts by Rényi divergences; see :class:`umbel.privacy.RdpAccountant`.

    For samples of a fixed size, one client in place of another moves a sum by twice the bound, and
    is counted so.

    Parameters
    ----------
    config : PrivacyConfig
        What to count with.
    orders : sequence of float, optional
        The orders are those of ``dp_accounting``; others are refused.

    Raises
    ------
    NotInUmbel
        Orders are given.

    Examples
    --------
    >>> config = PrivacyConfig(
    ...     target_delta=1e-5, population_size=100, max_epsilon=5.0,
    ...     neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
    ...     sampling_method=SamplingMethod.NO_AMPLIFICATION)
    >>> accountant = RdpAccountant(config)
    >>> accountant.compose(GaussianPrivacyEvent(2.0, 10, 100), count=4)
    >>> round(accountant.get_privacy_spent().epsilon, 2), accountant.num_releases
    (4.73, 4)
    >>> accountant.would_exceed(GaussianPrivacyEvent(2.0, 10, 100))
    True
    """

    def __init__(self, config: PrivacyConfig, orders: tuple[float, ...] | None = None) -> None:
        self._config = config
        self._counted: list[tuple[GaussianPrivacyEvent, int]] = []
        if orders is not None and list(orders) != self._total().orders:
            raise NotInUmbel(
                "the orders of the accountant cannot be chosen",
                hint="leave orders out: those of dp_accounting are taken",
            )

    @property
    def config(self) -> PrivacyConfig:
        """What it counts with."""
        return self._config

    @property
    def num_releases(self) -> int:
        """How many releases it has counted."""
        return sum(count for _, count in self._counted)

    def compose(self, event: GaussianPrivacyEvent, count: int = 1) -> None:
        """Count so many more of an event."""
        self._total((event, count))
        self._counted.append((event, count))

    def get_epsilon(self, delta: float) -> float:
        """Return the epsilon of all releases at a delta."""
        return self._total().epsilon(delta) if self._counted else 0.0

    def get_delta(self, epsilon: float) -> float:
        """Return the delta of all releases at an epsilon."""
        return self._total().delta(epsilon) if self._counted else 0.0

    def get_privacy_spent(self, delta: float | None = None) -> PrivacySpent:
        """Return what all releases come to."""
        delta = self._config.target_delta if delta is None else delta
        return PrivacySpent(self.get_epsilon(delta), delta, self.num_releases, "rdp")

    def would_exceed(
        self, event: GaussianPrivacyEvent, max_epsilon: float | None = None, count: int = 1
    ) -> bool:
        """Return whether so many more of an event would be over the budget.

        Raises
        ------
        ConfigError
            There is no budget.
        """
        budget = self._config.max_epsilon if max_epsilon is None else max_epsilon
        if budget is None:
            raise ConfigError("there is no budget", hint="give max_epsilon to PrivacyConfig")
        after = self._total((event, count)).epsilon(self._config.target_delta)
        return not after <= budget  # so that a NaN is over it as well

    def state_dict(self) -> dict[str, object]:
        """Return all that was counted, as plain values."""
        return {
            "schema_version": _VERSION,
            "backend": "rdp",
            "config": _plain(self._config),
            "orders": self._total().orders,
            "compositions": [
                {"event": asdict(event), "count": count} for event, count in self._counted
            ],
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from what ``state_dict`` returned.

        Raises
        ------
        ConfigError
            It is not the state of an accountant with this configuration.
        """
        known: Any = state
        head = (known.get("schema_version"), known.get("backend"), known.get("config"))
        if head != (_VERSION, "rdp", _plain(self._config)):
            raise ConfigError(
                "this is not the state of an accountant that counts with this configuration",
                hint="make the accountant with the PrivacyConfig that the state was saved with",
            )
        self._counted = [
            (GaussianPrivacyEvent(**entry["event"]), entry["count"])
            for entry in known["compositions"]
        ]

    def _total(self, *more: tuple[GaussianPrivacyEvent, int]) -> privacy.RdpAccountant:
        total = privacy.RdpAccountant(self._config.neighboring_relation.value)
        for event, count in (*self._counted, *more):
            if event.population_size != self._config.population_size:
                raise ConfigError(
                    f"the event is of a population of {event.population_size}, and the accountant "
                    f"counts for one of {self._config.population_size}"
                )
            total = total.compose(
                privacy.GaussianEvent(event.noise_multiplier, self._of(event)), count
            )
        return total

    def _of(self, event: GaussianPrivacyEvent) -> privacy.Sampling:
        match self._config.sampling_method:
            case SamplingMethod.POISSON:
                return privacy.Poisson(event.sample_size / event.population_size)
            case SamplingMethod.WITHOUT_REPLACEMENT:
                return privacy.FixedSize(event.sample_size, event.population_size)
        return privacy.NoAmplification()


def _plain(config: PrivacyConfig) -> dict[str, Any]:
    return asdict(config) | {
        "neighboring_relation": config.neighboring_relation.value,
        "sampling_method": config.sampling_method.value,
    }
