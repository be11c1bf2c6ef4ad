"""Weighted updates as whole numbers modulo a power of two, so that they can be masked and summed.

A client sends ``[p, p u]`` for its update ``u`` and the part ``p`` of the largest weight that its
own is. Sums of those give the weighted mean, and nobody sees a weight. What does not fit is an
error, never cut off in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from umbel.base import AggregationError, ConfigError, UsageError, is_number, is_whole_number
from umbel.updates import Arrays, NDArray, cast_back, matches

CHUNK_ITEMS = 1 << 14
"""Items worked on at a time: large enough for speed, small enough to stay in the cache."""

LEVELS_MIN = 1 << 7
"""With fewer steps on either side of zero there is hardly a number left."""

LEVELS_MAX = 1 << 52
"""Whole numbers up to here, and their halves, are exact in float64."""

Uniform = Callable[[int], NDArray]
"""``uniform(count)`` gives so many float64 numbers in [0, 1)."""


@dataclass(frozen=True)
class Decoded:
    """What a sum of encoded updates says.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The arrays that the updates were made from, moved by the weighted mean of the updates; in
        their dtypes.
    weight : float
        The sum of the weights.
    """

    arrays: dict[str, NDArray]
    weight: float


@dataclass(frozen=True)
class FixedPoint:
    """The whole numbers that stand for weighted updates, modulo ``2**bits``.

    Each value has ``levels`` steps on either side of zero, as many as the sum over the cohort has
    room for. Whole weights are exact as long as ``weight_max`` is not above ``levels``.

    Parameters
    ----------
    clip : float or mapping of str to float
        The largest magnitude that a value of an update may have; or one for each pattern of array
        names, of which the first that matches counts. A larger value is an error.
    weight_max : float
        The largest weight of a client.
    cohort_max : int
        How many clients there are at most.
    bits : {16, 32, 64}
        The size of a number.

    Raises
    ------
    ConfigError
        A bound is no positive number, or so few bits leave no precision for so many clients.

    Examples
    --------
    >>> codec = FixedPoint(clip=8.0, weight_max=100, cohort_max=2)
    >>> model = {"w": np.array([1.0, 2.0])}
    >>> first = codec.encode({"w": np.array([1.5, 2.0])}, 30, before=model)
    >>> second = codec.encode({"w": np.array([1.0, 3.0])}, 10, before=model)
    >>> mean = codec.decode(first + second, model)
    >>> mean.arrays["w"].round(6).tolist(), mean.weight
    ([1.375, 2.25], 40.0)
    """

    clip: float | Mapping[str, float]
    weight_max: float
    cohort_max: int
    bits: int = 32

    def __post_init__(self) -> None:
        if self.bits not in (16, 32, 64):
            raise ConfigError(f"bits={self.bits!r} is not one of 16, 32 and 64")
        if not is_whole_number(self.cohort_max) or self.cohort_max < 1:
            raise ConfigError(f"cohort_max={self.cohort_max!r} is not a number of clients")
        bounds = self.clip if isinstance(self.clip, Mapping) else {"clip": self.clip}
        for name, bound in {**bounds, "weight_max": self.weight_max}.items():
            if not is_number(bound) or bound <= 0:
                raise ConfigError(f"the bound {name}={bound!r} is not a positive number")
        if self.levels < LEVELS_MIN:
            raise ConfigError(
                f"{self.bits} bits leave {max(self.levels, 0)} steps for each of "
                f"{self.cohort_max} clients",
                hint=f"take bits={min(2 * self.bits, 64)}, or fewer clients a round",
            )

    @cached_property
    def levels(self) -> int:
        """The number that stands for ``clip``; that many times the cohort never wraps around."""
        # One step is kept back for rounding up what arithmetic left a hair above the bound.
        return min(((1 << (self.bits - 1)) - 1) // self.cohort_max - 1, LEVELS_MAX)

    @cached_property
    def weight_scale(self) -> float:
        """The number that stands for a weight of one: a whole one, where there is room."""
        scale = self.levels / self.weight_max
        return math.floor(scale) if scale >= 1 else scale

    @property
    def dtype(self) -> np.dtype[Any]:
        """The unsigned type whose arithmetic is modulo ``2**bits``."""
        return np.dtype(f"uint{self.bits}")

    def bound(self, key: str) -> float:
        """Return the largest magnitude of a value of the array ``key``.

        Raises
        ------
        ConfigError
            No pattern of ``clip`` matches it.
        """
        if not isinstance(self.clip, Mapping):
            return float(self.clip)
        for pattern, bound in self.clip.items():
            if matches(key, [pattern]):
                return float(bound)
        raise ConfigError(
            f"clip has no bound for the array {key!r}",
            hint='end it with a pattern for all others: {..., "*": 8.0}',
        )

    def step(self, key: str) -> float:
        """Return how far apart two neighbouring numbers are, for a client of the largest weight."""
        return self.bound(key) / self.levels

    def error_max(self, key: str, weight: float, count: int) -> float:
        """Return how far rounding can move a value of the mean, at most.

        Parameters
        ----------
        key : str
            The array.
        weight : float
            The sum of the weights.
        count : int
            How many clients are in the mean.
        """
        return 0.5 * count * self.step(key) * self.weight_max / weight

    def length(self, arrays: Arrays) -> int:
        """Return the length of the vector that stands for arrays like these, and a weight."""
        return 1 + sum(value.size for value in arrays.values())

    def encode(
        self,
        arrays: Arrays,
        weight: float = 1.0,
        *,
        before: Arrays | None = None,
        uniform: Uniform | None = None,
    ) -> NDArray:
        """Return the vector that stands for an update and its weight.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            The update; or, with ``before``, what the arrays have become.
        weight : float, default=1.0
            The client's weight.
        before : mapping of str to ndarray, optional
            The arrays that the update starts from.
        uniform : callable, optional
            Where chance for stochastic rounding comes from; without it values are rounded to the
            nearest.

        Raises
        ------
        UsageError
            The weight or a value is out of its range, or an array is not there or has another
            shape.
        """
        share = self._share(weight)
        if before is not None:
            _check_same(arrays, before)
        vector = np.empty(self.length(arrays), self.dtype)
        vector[0] = share
        # Two's complement: a negative number and its remainder modulo 2**bits are the same bits.
        signed = vector.view(f"int{self.bits}")
        room = np.empty(CHUNK_ITEMS)
        at = 1
        for key, value in arrays.items():
            bound = self.bound(key)
            factor = share / (self.weight_scale * self.weight_max) * self.levels / bound
            after, old = _flat(value), None if before is None else _flat(before[key])
            for start in range(0, value.size, CHUNK_ITEMS):
                part = slice(start, min(start + CHUNK_ITEMS, value.size))
                out = room[: part.stop - start]
                out[...] = after[part]
                if old is not None:
                    out -= old[part]
                _check_range(key, out, bound)
                out *= factor
                if uniform is None:
                    np.rint(out, out=out)
                else:
                    out += uniform(out.size)
                    np.floor(out, out=out)
                signed[at + start : at + part.stop] = out
            at += value.size
        return vector

    def decode(self, total: NDArray, before: Arrays) -> Decoded:
        """Return what a sum of vectors says: arrays moved by the mean update.

        Parameters
        ----------
        total : ndarray
            The sum of vectors, modulo ``2**bits``.
        before : mapping of str to ndarray
            The arrays that the updates start from; zeros give the mean update itself.

        Raises
        ------
        AggregationError
            All weights are zero, or the sum is none of vectors for these arrays.
        """
        if total.dtype != self.dtype or total.shape != (self.length(before),):
            raise AggregationError(
                f"a sum of {total.shape} {total.dtype} numbers is none of updates of "
                f"{self.length(before)} {self.dtype} numbers",
                hint="every client must encode the arrays that were sent",
            )
        share = int(total[0])
        if share == 0:
            raise AggregationError(
                "the weights of all clients are zero, so there is no mean",
                hint="reply with a positive weight",
            )
        signed = total.view(f"int{self.bits}")
        moved: dict[str, NDArray] = {}
        at = 1
        for key, value in before.items():
            factor = self.weight_scale * self.weight_max / share * self.bound(key) / self.levels
            after, old = np.empty(value.shape, value.dtype), _flat(value)
            flat = after.reshape(-1)
            for start in range(0, value.size, CHUNK_ITEMS):
                part = slice(start, min(start + CHUNK_ITEMS, value.size))
                mean = signed[at + start : at + part.stop] * factor
                mean += old[part]
                flat[part] = cast_back(mean, value.dtype)
            moved[key] = after
            at += value.size
        return Decoded(moved, share / self.weight_scale)

    def _share(self, weight: float) -> int:
        """Return the number that stands for a weight."""
        if not 0 <= weight <= self.weight_max:
            raise UsageError(
                f"the weight is not in [0, {self.weight_max:g}]",
                hint="raise weight_max, or reply with a smaller weight",
            ) from _private(weight)
        share = round(weight * self.weight_scale)
        if weight > 0 and share == 0:
            raise UsageError(
                "the weight is too small to tell it from zero, beside the largest of "
                f"{self.weight_max:g}",
                hint="lower weight_max, or take more bits",
            ) from _private(weight)
        return share


def _private(value: float) -> ValueError:
    """Return what stays at the client: the text of an error travels, and its cause does not."""
    return ValueError(f"it is {value:g}")


def bits_for(cohort_max: int, levels: int = 1 << 20) -> int:
    """Return the fewest bits that leave every value ``levels`` steps in such a cohort.

    Examples
    --------
    >>> bits_for(10), bits_for(2000), bits_for(100_000), bits_for(10, levels=1000)
    (32, 32, 64, 16)
    """
    for bits in (16, 32):
        if ((1 << (bits - 1)) - 1) // cohort_max - 1 >= levels:
            return bits
    return 64


def _check_range(key: str, values: NDArray, bound: float) -> None:
    # Not `any(value > bound)`: a comparison with NaN is false, and NaN passes on to the maximum.
    highest, lowest = float(values.max()), float(values.min())
    if highest <= bound and lowest >= -bound:
        return
    worst = highest if not highest <= -lowest else lowest
    if math.isnan(worst) or math.isinf(worst):
        raise UsageError(
            "the update cannot be aggregated: it holds NaN or infinity",
            hint="training diverged there; lower the learning rate or clip gradients",
            key=key,
        )
    raise UsageError(
        f"a value of the update is out of [-{bound:g}, {bound:g}]",
        hint="raise clip in with_secagg, or keep the update small: clipping_mod, a lower "
        "learning rate",
        key=key,
    ) from _private(worst)


def _check_same(arrays: Arrays, before: Arrays) -> None:
    """Raise unless both have the same arrays, in the same order."""
    if list(arrays) != list(before):
        missing, added = before.keys() - arrays.keys(), arrays.keys() - before.keys()
        raise UsageError(
            f"the arrays are not those of the model: missing {sorted(missing)[:5]}, "
            f"unexpected {sorted(added)[:5]}"
            if missing or added
            else "the arrays are in another order than those of the model",
            hint="reply with the arrays of the message, under their names",
        )
    for key, value in arrays.items():
        if value.shape != before[key].shape:
            raise UsageError(
                f"an array came with shape {before[key].shape} and has {value.shape} now",
                key=key,
            )


def _flat(array: NDArray) -> Any:
    """Return something that slices like the flattened array, without a copy of the whole."""
    return array.reshape(-1) if array.flags.c_contiguous else array.flat
