"""What was released, as facts: the noise of one release and how its clients were chosen.

An event is all that accounting needs to know of a release, and nothing else. It is plain JSON, so
that the run log holds it and any accountant can count it again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

from umbel.base import ConfigError, ProtocolError
from umbel.privacy.checks import chance, positive, whole

Adjacency = Literal["add-or-remove-one", "zero-out", "replace-one"]
"""Which data sets count as neighbours: one unit more or less, one unit's data replaced by nothing
(the unit is still counted), or one unit's data replaced by any other."""


@dataclass(frozen=True)
class NoAmplification:
    """No chance in who takes part is counted on: the release is accounted as if all did.

    Examples
    --------
    >>> print(NoAmplification())
    none counted on
    """

    kind: ClassVar[str] = "none"

    def __str__(self) -> str:
        return "none counted on"


@dataclass(frozen=True)
class Poisson:
    """Each unit takes part on its own, with the same probability; the cohort's size varies.

    Parameters
    ----------
    rate : float
        The probability, in (0, 1].

    Examples
    --------
    >>> print(Poisson(0.01))
    Poisson, each with probability 0.01
    """

    rate: float
    kind: ClassVar[str] = "poisson"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", chance(self.rate, "rate"))

    def __str__(self) -> str:
        return f"Poisson, each with probability {self.rate:g}"


@dataclass(frozen=True)
class FixedSize:
    """A set of a fixed size, each such set as likely, without replacement.

    The amplification that follows is known for replace-one adjacency.

    Parameters
    ----------
    size, population : int
        How many of how many take part.

    Examples
    --------
    >>> print(FixedSize(10, 1000))
    10 of 1000, without replacement
    """

    size: int
    population: int
    kind: ClassVar[str] = "fixed-size"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", whole(self.size, "size"))
        object.__setattr__(self, "population", whole(self.population, "population"))
        if self.size > self.population:
            raise ConfigError(f"a sample of {self.size} cannot be drawn from {self.population}")

    def __str__(self) -> str:
        return f"{self.size} of {self.population}, without replacement"


Sampling = NoAmplification | Poisson | FixedSize


def natural_adjacency(sampling: Sampling) -> Adjacency:
    """Return the adjacency for which a sampling is commonly accounted.

    Examples
    --------
    >>> natural_adjacency(Poisson(0.1)), natural_adjacency(FixedSize(1, 10))
    ('add-or-remove-one', 'replace-one')
    """
    match sampling:
        case Poisson():
            return "add-or-remove-one"
        case FixedSize():
            return "replace-one"
        case NoAmplification():
            # One client less may change who else is chosen; a client that sends nothing does not.
            return "zero-out"


@dataclass(frozen=True)
class GaussianEvent:
    """A sum of vectors of bounded L2 norm, with Gaussian noise.

    Parameters
    ----------
    noise_multiplier : float
        The noise's standard deviation over the bound on the norm of one unit's vector. (Under
        replace-one adjacency the sum moves by up to twice that bound; accountants know.)
    sampling : Sampling
        Whose vectors are in the sum.

    Examples
    --------
    >>> GaussianEvent(1.1, Poisson(0.01))
    GaussianEvent(noise_multiplier=1.1, sampling=Poisson(rate=0.01))
    """

    noise_multiplier: float
    sampling: Sampling = NoAmplification()
    kind: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        _hold_positive(self, "noise_multiplier")
        _check_sampling(self.sampling)


@dataclass(frozen=True)
class LaplaceEvent:
    """A sum of vectors of bounded L1 norm, with Laplace noise.

    Parameters
    ----------
    noise_multiplier : float
        The noise's scale over the bound on the L1 norm of one unit's vector.
    sampling : Sampling
        Whose vectors are in the sum.

    Examples
    --------
    >>> LaplaceEvent(2.0).noise_multiplier
    2.0
    """

    noise_multiplier: float
    sampling: Sampling = NoAmplification()
    kind: ClassVar[str] = "laplace"

    def __post_init__(self) -> None:
        _hold_positive(self, "noise_multiplier")
        _check_sampling(self.sampling)


@dataclass(frozen=True)
class DiscreteGaussianEvent:
    """A sum of vectors of whole numbers, with discrete Gaussian noise, added in one or many parts.

    Parameters
    ----------
    sigma : float
        The parameter of each part's noise, in the vectors' units.
    sensitivity, sensitivity_l1 : float
        The bounds on the L2 and L1 norms of one unit's vector, after rounding.
    dimension : int
        The length of the vectors.
    parts : int
        How many independent discrete Gaussians are in the sum: 1 if a server adds the noise, and
        the number of clients whose shares arrived if each adds a share.
    sampling : Sampling
        Whose vectors are in the sum.

    Examples
    --------
    >>> DiscreteGaussianEvent(10.0, 100.0, 1000.0, dimension=500, parts=50).parts
    50
    """

    sigma: float
    sensitivity: float
    sensitivity_l1: float
    dimension: int
    parts: int = 1
    sampling: Sampling = NoAmplification()
    kind: ClassVar[str] = "discrete-gaussian"

    def __post_init__(self) -> None:
        _hold_positive(self, "sigma", "sensitivity", "sensitivity_l1")
        object.__setattr__(self, "dimension", whole(self.dimension, "dimension"))
        object.__setattr__(self, "parts", whole(self.parts, "parts"))
        _check_sampling(self.sampling)


@dataclass(frozen=True)
class SkellamEvent:
    """A sum of vectors of whole numbers, with Skellam noise, added in any number of parts.

    Parameters
    ----------
    variance : float
        The variance of all noise in the sum, in the vectors' units squared. Skellam noise adds up,
        so the number of parts does not matter.
    sensitivity, sensitivity_l1 : float
        The bounds on the L2 and L1 norms of one unit's vector, after rounding.
    sampling : Sampling
        Whose vectors are in the sum.

    Examples
    --------
    >>> SkellamEvent(variance=1e4, sensitivity=100.0, sensitivity_l1=1000.0).variance
    10000.0
    """

    variance: float
    sensitivity: float
    sensitivity_l1: float
    sampling: Sampling = NoAmplification()
    kind: ClassVar[str] = "skellam"

    def __post_init__(self) -> None:
        _hold_positive(self, "variance", "sensitivity", "sensitivity_l1")
        _check_sampling(self.sampling)


@dataclass(frozen=True)
class CorrelatedEvent:
    """Many rounds whose Gaussian noises depend on each other, accounted as one release.

    With a noise that is ``Z`` times the inverse of a factor, all sums together are one Gaussian
    mechanism (Denisov et al. 2022, arXiv:2202.08312, theorem 2.1): it is ``rho``-zCDP with
    ``rho = (sensitivity / noise_multiplier)^2 / 2``.

    Parameters
    ----------
    noise_multiplier : float
        The standard deviation of the independent noise ``Z`` over the bound on the L2 norm of what
        one unit gives in one round.
    sensitivity : float
        How far one unit can move all rounds together, in multiples of that bound, if it takes part
        as often as ``participation`` says; the mechanism computes it.
    rounds : int
        How many rounds are covered.
    participation : str
        How often one unit takes part at most, in words.

    Examples
    --------
    >>> CorrelatedEvent(4.0, 3.0, rounds=128, participation="at most every 32 rounds").rounds
    128
    """

    noise_multiplier: float
    sensitivity: float
    rounds: int
    participation: str
    kind: ClassVar[str] = "correlated"

    def __post_init__(self) -> None:
        _hold_positive(self, "noise_multiplier", "sensitivity")
        object.__setattr__(self, "rounds", whole(self.rounds, "rounds"))

    @property
    def sampling(self) -> Sampling:
        """Correlated noise counts on no chance in who takes part."""
        return NoAmplification()


Event = GaussianEvent | LaplaceEvent | DiscreteGaussianEvent | SkellamEvent | CorrelatedEvent

_EVENTS = {kind.kind: kind for kind in get_args(Event)}
_SAMPLINGS = {kind.kind: kind for kind in get_args(Sampling)}


def event_to_json(event: Event) -> dict[str, Any]:
    """Return an event as plain JSON values, from which it can be made again exactly.

    Examples
    --------
    >>> event_to_json(GaussianEvent(1.0, Poisson(0.5)))
    {'kind': 'gaussian', 'noise_multiplier': 1.0, 'sampling': {'kind': 'poisson', 'rate': 0.5}}
    """
    data = {"kind": event.kind, **asdict(event)}
    if "sampling" in data:
        data["sampling"] = sampling_to_json(event.sampling)
    return data


def event_from_json(data: dict[str, Any]) -> Event:
    """Return the event that :func:`event_to_json` wrote.

    Raises
    ------
    ProtocolError
        There is no such kind of event, or its fields are not those of that kind.

    Examples
    --------
    >>> event_from_json({"kind": "laplace", "noise_multiplier": 2.0, "sampling": {"kind": "none"}})
    LaplaceEvent(noise_multiplier=2.0, sampling=NoAmplification())
    """
    facts = dict(data)
    if "sampling" in facts:
        facts["sampling"] = sampling_from_json(facts["sampling"])
    event: Event = _made(_EVENTS, "event", facts)
    return event


def sampling_to_json(sampling: Sampling) -> dict[str, Any]:
    """Return a sampling as plain JSON values.

    Examples
    --------
    >>> sampling_to_json(FixedSize(2, 10))
    {'kind': 'fixed-size', 'size': 2, 'population': 10}
    """
    return {"kind": sampling.kind, **asdict(sampling)}


def sampling_from_json(data: dict[str, Any]) -> Sampling:
    """Return the sampling that :func:`sampling_to_json` wrote, or raise ``ProtocolError``.

    Examples
    --------
    >>> sampling_from_json({"kind": "none"})
    NoAmplification()
    """
    sampling: Sampling = _made(_SAMPLINGS, "sampling", data)
    return sampling


def _made(kinds: dict[str, Any], what: str, data: dict[str, Any]) -> Any:
    facts = dict(data)
    kind = facts.pop("kind", None)
    if kind not in kinds:
        raise ProtocolError(
            f"no {what} of a privacy ledger is of the kind {kind!r}",
            hint=f"the kinds are {', '.join(kinds)}; a later release may have written this",
        )
    try:
        return kinds[kind](**facts)
    except (TypeError, ConfigError) as error:
        raise ProtocolError(f"this is not a {what} of the kind {kind!r}: {error}") from error


def _hold_positive(event: object, *names: str) -> None:
    for name in names:
        value = positive(getattr(event, name), name)
        if not 1e-50 <= value <= 1e50:  # beyond, the squares of accounting over- and underflow
            raise ConfigError(f"{name} lies between 1e-50 and 1e50, got {value:g}")
        object.__setattr__(event, name, value)


def _check_sampling(sampling: Sampling) -> None:
    if not isinstance(sampling, Sampling):
        raise ConfigError(
            f"sampling is NoAmplification(), Poisson(...) or FixedSize(...), got {sampling!r}"
        )
