"""Shares of noise: whole numbers that clients add so that their sum is private to whoever opens it.

Kairouz, Liu and Steinke 2021 (arXiv:2102.06387) with discrete Gaussian noise; Agarwal, Kairouz and
Liu 2021 (arXiv:2110.04995) with Skellam noise. Both spread an update by a random rotation first, to
make do with few bits; here numbers have room enough without.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from umbel.base import ConfigError, KeyStream, StateError, derive_key
from umbel.privacy.checks import positive
from umbel.privacy.clipping import PerLayer, clip
from umbel.privacy.events import DiscreteGaussianEvent, SkellamEvent
from umbel.privacy.noise import NoiseSource
from umbel.updates import Arrays, NDArray

Mechanism = Literal["skellam", "discrete-gaussian"]

_CHUNK = 1 << 14
_NORM_MAX = 2.0**26
"""Up to this norm the sum of squares is exact in float64."""
_TAIL = 12.0
"""Noise is beyond so many standard deviations with a probability of 1e-32."""
_TRIES_MAX = 500


@dataclass(frozen=True)
class NoiseShare:
    """What one client does to its update: clip, scale, round by chance, add its share of noise.

    Parameters
    ----------
    mechanism : {"skellam", "discrete-gaussian"}
        The noise.
    clipping : float or PerLayer
        The bound on the L2 norm of an update.
    scale : float
        What is multiplied with before rounding.
    variance : float
        The variance of one share, in rounded numbers; the square of ``sigma`` of a discrete
        Gaussian.

    Raises
    ------
    ConfigError
        A number is not positive, or there is no such mechanism.

    Examples
    --------
    >>> share = NoiseShare.fitting("skellam", 1.0, noise_multiplier=1.0, shares=7, cohort=10)
    >>> round(share.noise_multiplier(shares=7), 6)
    1.0
    >>> share.draw({"w": np.array([0.6, 0.8])}, bytes(32), seeded=True)["w"].dtype
    dtype('int64')
    """

    mechanism: Mechanism
    clipping: float | PerLayer
    scale: float
    variance: float

    def __post_init__(self) -> None:
        if self.mechanism not in get_args(Mechanism):
            raise ConfigError(
                f"there is no mechanism {self.mechanism!r}",
                hint='give "skellam" or "discrete-gaussian"',
            )
        for name in ("scale", "variance"):
            positive(getattr(self, name), name)
        clip({}, self.clipping)  # raises if a bound makes no sense

    @classmethod
    def fitting(
        cls,
        mechanism: Mechanism,
        clipping: float | PerLayer,
        *,
        noise_multiplier: float,
        shares: int,
        cohort: int,
        bits: int = 32,
    ) -> NoiseShare:
        """Return the shares of which so many make the noise that is wanted.

        Parameters
        ----------
        mechanism, clipping
            As above.
        noise_multiplier : float
            The standard deviation of the noise in a sum over the bound on the norm.
        shares : int
            So many are in the sum at least.
        cohort : int
            So many updates are in the sum at most, and do not wrap around.
        bits : int
            The size of a number.
        """
        clip({}, clipping)
        bound = _norm(clipping)
        noise = positive(noise_multiplier, "noise_multiplier") * math.sqrt(cohort / shares)
        # One for each update, and one for the noise, is what rounding may add.
        room = (2.0 ** (bits - 1) - 1 - 2 * cohort) / (cohort + _TAIL * noise)
        scale = min(room, _NORM_MAX) / bound
        variance = (noise_multiplier * bound * scale) ** 2 / shares
        return cls(mechanism, clipping, scale, variance)

    @property
    def bound(self) -> float:
        """The bound on the L2 norm of the whole update."""
        return _norm(self.clipping)

    def noise_multiplier(self, shares: int) -> float:
        """Return the standard deviation of so many shares over the scaled bound on the norm."""
        return math.sqrt(self.variance * shares) / (self.bound * self.scale)

    def sensitivity(self, dimension: int) -> float:
        """Return the bound on the L2 norm of a rounded update of so many numbers.

        Kairouz et al. 2021, definition 1 and proposition 22, with ``beta = exp(-1/2)``.
        """
        norm, root = self.bound * self.scale, math.sqrt(dimension)
        rounded = math.sqrt(norm**2 + dimension / 4 + norm + root / 2)
        return min(norm + root, rounded)

    def event(self, dimension: int, shares: int) -> SkellamEvent | DiscreteGaussianEvent:
        """Return what opening a sum with so many shares of noise costs."""
        longest = self.sensitivity(dimension)
        # Of whole numbers, no absolute value is above its square.
        absolute = min(math.sqrt(dimension) * longest, longest**2)
        if self.mechanism == "skellam":
            return SkellamEvent(self.variance * shares, longest, absolute)
        sigma = math.sqrt(self.variance)
        return DiscreteGaussianEvent(sigma, longest, absolute, dimension, shares)

    def draw(self, update: Arrays, secret: bytes, *, seeded: bool) -> dict[str, NDArray]:
        """Return the update as whole numbers with a share of noise, int64.

        Parameters
        ----------
        update : mapping of str to ndarray
            Floating-point arrays.
        secret : bytes
            32 bytes that serve no other update.
        seeded : bool
            Whether the secret follows from a seed.

        Raises
        ------
        RejectedReply
            The update holds NaN or infinity.
        """
        clipped = clip(update, self.clipping).update
        rounded = self._rounded(clipped, derive_key(secret, "rounding"))
        source = NoiseSource(derive_key(secret, "noise"), seeded=seeded)
        if self.mechanism == "skellam":
            noise = source.skellam(rounded, self.variance, "share")
        else:
            noise = source.discrete_gaussian(rounded, math.sqrt(self.variance), "share")
        for key, value in rounded.items():
            value += noise[key]
        return rounded

    def to_text(self) -> str:
        """Return the share as JSON."""
        known: dict[str, Any] = {**vars(self)}
        if isinstance(self.clipping, PerLayer):
            known["clipping"] = dict(self.clipping.bounds)
        return json.dumps(known)

    @classmethod
    def of(cls, text: str) -> NoiseShare:
        """Return the share that ``to_text`` wrote.

        Raises
        ------
        ConfigError
            It is none.
        """
        try:
            known = json.loads(text)
            clipping = known.pop("clipping")
            bound = PerLayer(clipping) if isinstance(clipping, Mapping) else float(clipping)
            return cls(clipping=bound, **known)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"this is no share of noise: {error}") from error

    def _rounded(self, update: Arrays, secret: bytes) -> dict[str, NDArray]:
        """Round up or down by chance, again until the norm is within the sensitivity."""
        square_max = self.sensitivity(sum(value.size for value in update.values())) ** 2
        for attempt in range(_TRIES_MAX):
            stream = KeyStream(derive_key(secret, attempt))
            rounded, square = {}, 0.0
            for key, value in update.items():
                rounded[key], added = self._rounded_array(value, stream)
                square += added
            if square <= square_max:
                return rounded
        # Each attempt succeeds with a probability of 0.39 at least.
        raise StateError("rounding an update does not stay within its sensitivity")

    def _rounded_array(self, value: NDArray, stream: KeyStream) -> tuple[NDArray, float]:
        flat, out = np.ascontiguousarray(value).reshape(-1), np.empty(value.size, np.int64)
        square = 0.0
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK].astype(np.float64)
            part *= self.scale
            part += stream.uniform(part.size)
            np.floor(part, out=part)
            square += float(np.square(part).sum())  # of whole numbers: exact
            out[start : start + part.size] = part
        return out.reshape(value.shape), square


def _norm(clipping: float | PerLayer) -> float:
    return clipping.sensitivity if isinstance(clipping, PerLayer) else float(clipping)
