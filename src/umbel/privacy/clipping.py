"""Clipping: how far one unit's update can move the sum, whatever the update is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from umbel.base import ConfigError, RejectedReply, is_number
from umbel.privacy.checks import positive, whole
from umbel.updates import Arrays, NDArray, is_whole, sum_dtype

_CHUNK_ITEMS = 1 << 15
_LEAST_BOUND, _LARGEST_BOUND = 1e-100, 1e100
"""Beyond these, squares vanish or overflow."""


@dataclass(frozen=True)
class Clipped:
    """An update within a bound, and what it was before.

    Attributes
    ----------
    update : mapping of str to ndarray
        The arrays, with their dtypes. Those that were within the bound are the very ones given.
    norm : float
        The L2 norm of the whole update before; never to be released without noise.
    within : bool
        Whether nothing had to be shortened; likewise private.
    """

    update: Arrays
    norm: float
    within: bool


@dataclass(frozen=True)
class PerLayer:
    """A bound of its own for each array.

    McMahan et al. 2018 (arXiv:1710.06963, section 2.3): useful where the arrays' norms differ
    much, for one large array then does not shrink all others.

    Parameters
    ----------
    bounds : mapping of str to float
        The largest L2 norm of each array, by its name.

    Attributes
    ----------
    sensitivity : float
        ``sqrt(sum of bounds**2)``.

    Raises
    ------
    ConfigError
        There are no bounds, or one is not a positive number.

    Examples
    --------
    >>> layers = PerLayer({"body": 3.0, "head": 4.0})
    >>> layers.sensitivity
    5.0
    >>> clip({"body": np.array([6.0]), "head": np.array([-1.0])}, layers).update["head"].tolist()
    [-1.0]
    """

    bounds: Mapping[str, float]

    def __post_init__(self) -> None:
        bounds: object = self.bounds
        if not isinstance(bounds, Mapping) or not bounds:
            raise ConfigError(
                f"clipping by layer needs at least one array's bound, got {bounds!r}",
                hint='PerLayer({"fc.weight": 1.0})',
            )
        checked = {name: _bound(value, name) for name, value in bounds.items()}
        object.__setattr__(self, "bounds", checked)

    @classmethod
    def evenly(cls, names: Iterable[str], bound: float) -> PerLayer:
        """Return the same bound for each array, so that the whole stays within ``bound``.

        Examples
        --------
        >>> PerLayer.evenly(["a", "b", "c", "d"], 1.0).bounds["a"]
        0.5
        """
        names = list(names)
        return cls(dict.fromkeys(names, bound / math.sqrt(max(1, len(names)))))

    @property
    def sensitivity(self) -> float:
        """The largest L2 norm of the whole."""
        return math.hypot(*self.bounds.values())


def clip(update: Arrays, bound: float | PerLayer) -> Clipped:
    """Return the update, shortened where its L2 norm is above the bound.

    The norm is over all arrays together, or over each with ``PerLayer``; it is summed in float64,
    in an order that no number of threads changes. The direction stays. Shortened arrays are
    rounded to their dtypes and measured again, so that what comes out is within the bound and not
    a little above it: for the sensitivity, that little would count.

    Arrays of whole numbers are refused. They cannot be shortened, and passing them on would leave
    the bound.

    Parameters
    ----------
    update : mapping of str to ndarray
        Floating-point or complex arrays of any shape; none is changed.
    bound : float or PerLayer
        The largest norm.

    Raises
    ------
    RejectedReply
        A value is NaN or infinite or too large to be squared; an array holds whole numbers, or no
        numbers; ``PerLayer`` has no bound for an array.
    ConfigError
        The bound is not a positive number.

    Examples
    --------
    >>> clipped = clip({"w": np.array([3.0, 4.0])}, 2.5)
    >>> clipped.update["w"].round(6).tolist(), clipped.norm, clipped.within
    ([1.5, 2.0], 5.0, False)
    """
    squares = {key: _squared_norm(key, value) for key, value in update.items()}
    norm = math.sqrt(math.fsum(squares.values()))
    if isinstance(bound, PerLayer):
        return _clip_layers(update, bound, squares, norm)
    bound = _bound(bound, "the clipping bound")
    if norm <= bound:
        return Clipped(update, norm, within=True)
    return Clipped(_shortened(update, norm, bound), norm, within=False)


def _clip_layers(
    update: Arrays, layers: PerLayer, squares: dict[str, float], norm: float
) -> Clipped:
    clipped: dict[str, NDArray] = {}
    within = True
    for key, value in update.items():
        bound = layers.bounds.get(key)
        if bound is None:
            raise RejectedReply(
                "the update holds an array that has no clipping bound",
                hint="give PerLayer a bound for each array of the model",
                key=key,
            )
        own = math.sqrt(squares[key])
        if own <= bound:
            clipped[key] = value
        else:
            clipped |= _shortened({key: value}, own, bound)
            within = False
    return Clipped(clipped, norm, within)


@dataclass(frozen=True)
class AdaptiveBound:
    """A clipping bound that follows a quantile of the norms.

    After each round ``C <- C exp(-learning_rate (b - quantile))``, where ``b`` is the fraction of
    clients whose norm was within ``C``, with noise: Andrew et al. 2021 (arXiv:1905.03871,
    algorithm 1). Too many within, and the bound falls; too few, and it rises. The count of them
    costs privacy too: ``split`` says what noise multiplier is then left for the updates.

    Parameters
    ----------
    bound : float
        The bound to begin with.
    quantile : float
        The fraction of clients whose updates shall be within the bound, in (0, 1).
    learning_rate : float
        The largest step of ``log(bound)`` in a round is below this.
    count_sigma : float, optional
        The standard deviation of the noise in the count; a twentieth of the cohort if not given.

    Raises
    ------
    ConfigError
        A number is out of range.

    Examples
    --------
    >>> bound = AdaptiveBound(bound=1.0)
    >>> bound.after(0.9).bound < 1.0 < bound.after(0.1).bound
    True
    """

    bound: float = 0.1
    quantile: float = 0.5
    learning_rate: float = 0.2
    count_sigma: float | None = None

    def __post_init__(self) -> None:
        _bound(self.bound, "the clipping bound")
        if not is_number(self.quantile) or not 0 < self.quantile < 1:
            raise ConfigError(f"the quantile lies between 0 and 1, got {self.quantile!r}")
        positive(self.learning_rate, "the learning rate of the clipping bound")
        if self.count_sigma is not None:
            positive(self.count_sigma, "count_sigma")

    def noise_of_count(self, cohort: int) -> float:
        """Return the standard deviation of the noise in the count, for a cohort of this size.

        Examples
        --------
        >>> AdaptiveBound().noise_of_count(100)
        5.0
        """
        if self.count_sigma is not None:
            return self.count_sigma
        return whole(cohort, "the cohort's size") / 20

    def split(self, noise_multiplier: float, cohort: int) -> float:
        """Return the noise multiplier for the updates, so that both releases cost as one.

        ``(z**-2 - (2 sigma_b)**-2)**-0.5``, theorem 1 of the paper: together, the updates with
        this multiplier and the count with noise ``sigma_b`` are a Gaussian mechanism with the
        multiplier ``z``. It holds for the count as ``fraction`` makes it, where one client counts
        as plus or minus a half.

        Parameters
        ----------
        noise_multiplier : float
            ``z``, the one that is accounted for.
        cohort : int
            The expected number of clients.

        Raises
        ------
        ConfigError
            The noise in the count is too small for ``z``.

        Examples
        --------
        >>> round(AdaptiveBound().split(1.0, cohort=100), 4)
        1.005
        """
        z = positive(noise_multiplier, "the noise multiplier")
        of_count = 2 * self.noise_of_count(cohort)
        left = z**-2 - of_count**-2
        if left <= 0:
            raise ConfigError(
                f"the count of clients within the bound has noise of {of_count / 2:g}, which alone "
                f"costs more than the noise multiplier {z:g} allows",
                hint=f"set count_sigma above {z / 2:g}, or take a larger cohort",
            )
        return float(left**-0.5)

    def fraction(self, within: int, replies: int, cohort: int, noise: float) -> float:
        """Return the fraction of clients within the bound that may be released.

        ``(sum of (b_i - 1/2) + noise) / cohort + 1/2``, where ``b_i`` is 1 for a client within the
        bound and 0 for another.

        Parameters
        ----------
        within, replies : int
            How many updates were within the bound, of how many.
        cohort : int
            The expected number of replies: the true one may be private.
        noise : float
            A draw with the standard deviation ``noise_of_count(cohort)``.

        Examples
        --------
        >>> AdaptiveBound().fraction(within=30, replies=40, cohort=40, noise=-2.0)
        0.7
        """
        return (within - replies / 2 + noise) / whole(cohort, "the cohort's size") + 0.5

    def after(self, fraction_within: float) -> AdaptiveBound:
        """Return the bound of the next round.

        Parameters
        ----------
        fraction_within : float
            The fraction of clients whose norm was within this bound; with noise it may lie
            outside [0, 1].

        Raises
        ------
        ConfigError
            The fraction is NaN or infinite.
        """
        if not math.isfinite(fraction_within):
            raise ConfigError(f"the fraction within the bound is {fraction_within}")
        step = -self.learning_rate * (fraction_within - self.quantile)
        exponent = math.log(self.bound) + step
        least, largest = math.log(_LEAST_BOUND), math.log(_LARGEST_BOUND)
        return replace(self, bound=math.exp(min(max(exponent, least), largest)))


def _bound(value: float, name: str) -> float:
    value = positive(value, name)
    # exp(log(x)) may land a hair beyond an end.
    if not 0.5 * _LEAST_BOUND < value < 2 * _LARGEST_BOUND:
        raise ConfigError(f"{name} lies between {_LEAST_BOUND} and {_LARGEST_BOUND}, got {value}")
    return value


def _squared_norm(key: str, value: NDArray) -> float:
    """Return the sum of squares, without BLAS: its sums depend on the number of threads."""
    dtype = value.dtype
    if is_whole(dtype):
        raise RejectedReply(
            f"an array of {dtype} cannot be clipped, nor may it pass a clip as it is",
            hint="leave whole numbers out of the update, as umbel.updates.trainable does",
            key=key,
        )
    try:
        sum_dtype(dtype)
    except RejectedReply as error:
        error.context["key"] = key
        raise
    flat = value.reshape(-1)
    if dtype.kind == "c":
        flat = flat.astype(np.complex128).view(np.float64)
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # the sum is looked at below
        for start in range(0, flat.size, _CHUNK_ITEMS):
            piece = flat[start : start + _CHUNK_ITEMS].astype(np.float64)
            total += float(np.square(piece, out=piece).sum())
    if not math.isfinite(total):
        raise RejectedReply(
            "the update cannot be clipped: it holds NaN, infinity, or values too large to square",
            hint="training diverged: lower the learning rate, or check the data for NaN",
            key=key,
        )
    return total


def _shortened(update: Arrays, norm: float, bound: float) -> dict[str, NDArray]:
    """Return the arrays scaled so that their norm, measured after rounding, is within the bound."""
    slack = max(_rounding(value) for value in update.values())
    factor = bound / norm * (1 - slack)
    while True:
        scaled = {key: _scaled(value, factor) for key, value in update.items()}
        after = math.sqrt(math.fsum(_squared_norm(key, value) for key, value in scaled.items()))
        if after <= bound:
            return scaled
        # Rounding added more than it does to normal numbers: they became subnormal, or float8.
        slack = min(2 * slack, 0.5)
        factor *= bound / after * (1 - slack)


def _rounding(value: NDArray) -> float:
    """Return a bound on what rounding adds to a number of this type, relative to it."""
    size = value.real.dtype.itemsize if value.dtype.kind == "c" else value.dtype.itemsize
    return {1: 2.0**-4, 2: 2.0**-8, 4: 2.0**-22}.get(size, 2.0**-48)


def _scaled(value: NDArray, factor: float) -> NDArray:
    wide = np.multiply(value, factor, dtype=sum_dtype(value.dtype), casting="unsafe")
    return np.asarray(wide, dtype=value.dtype)
