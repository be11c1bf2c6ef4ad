"""Compressors: an update as fewer bytes, and back."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from umbel.base import ConfigError, Seeds, is_number, is_whole_number
from umbel.records import Array
from umbel.updates.arrays import DType, NDArray

Parts = dict[str, NDArray]
"""What an array became, by name; its size is not in it, for the receiver knows the model."""


class Compressor(ABC):
    """A lossy code for one flat array of floating-point numbers.

    Either ``expand(compress(v))`` is ``v`` on average, with a variance of at most ``omega |v|^2``,
    or ``omega`` is zero and it is never farther from ``v`` than zero is. With error feedback the
    first kind is divided by ``1 + omega``, which makes it the second.
    """

    @property
    def keeps_all(self) -> bool:
        """Whether nothing would be lost; then replies travel as they are."""
        return False

    def omega(self, size: int) -> float:
        """Return the bound of the relative variance for arrays of this size."""
        return 0.0

    @property
    def draws_alike(self) -> bool:
        """Whether all clients of a round draw the same; then the mean of codes is a code."""
        return False

    def drawn(self, seed: int, key: str) -> Compressor:
        """Return what all clients have for the array ``key``, if they draw alike by ``seed``."""
        return self

    @abstractmethod
    def compress(self, values: NDArray, rng: np.random.Generator) -> Parts:
        """Return the code of a flat, finite array; it is not changed."""

    @abstractmethod
    def expand(self, parts: Parts, size: int, dtype: DType) -> NDArray:
        """Return the flat array that a code stands for.

        Raises
        ------
        ValueError, KeyError
            It is no code of an array of this size.
        """


@dataclass(frozen=True)
class TopK(Compressor):
    """Sends the entries of the largest magnitude, with their places.

    Stich et al. 2018, arXiv:1809.07599. To be used with error feedback.

    Parameters
    ----------
    fraction : float
        The part of each array's entries that is sent, in ``(0, 1]``; at least one is.

    Examples
    --------
    >>> top, values = TopK(0.5), np.array([1.0, -4.0, 0.5, 3.0])
    >>> top.expand(top.compress(values, None), 4, values.dtype).tolist()
    [0.0, -4.0, 0.0, 3.0]
    """

    fraction: float

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    @property
    def keeps_all(self) -> bool:
        return self.fraction == 1

    def compress(self, values: NDArray, rng: np.random.Generator) -> Parts:
        count = _count(self.fraction, values.size)
        places = np.argpartition(np.abs(values), values.size - count)[values.size - count :]
        return _sparse(values, places)

    def expand(self, parts: Parts, size: int, dtype: DType) -> NDArray:
        return _dense(parts, size, dtype)


@dataclass(frozen=True)
class RandomK(Compressor):
    """Sends entries chosen at random, multiplied by ``n / k`` so that the mean is right.

    Wangni et al. 2018, arXiv:1710.09854; ``omega = n / k - 1``.

    Parameters
    ----------
    fraction : float
        The part of each array's entries that is sent, in ``(0, 1]``; at least one is.
    """

    fraction: float

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    @property
    def keeps_all(self) -> bool:
        return self.fraction == 1

    def omega(self, size: int) -> float:
        return size / _count(self.fraction, size) - 1 if size else 0.0

    def compress(self, values: NDArray, rng: np.random.Generator) -> Parts:
        count = _count(self.fraction, values.size)
        return _sparse(values, rng.choice(values.size, count, replace=False))

    def expand(self, parts: Parts, size: int, dtype: DType) -> NDArray:
        return np.asarray(_dense(parts, size, dtype) * dtype.type(1 + self.omega(size)))


@dataclass(frozen=True)
class SharedRandomK(RandomK):
    """Sends entries chosen at random, for all clients of a round the same; no places travel.

    Otherwise as ``RandomK``. The mean of the codes is the code of the mean, so that they can be
    summed as they are: the random mask of Konecny et al. 2016, arXiv:1610.05492, one for all.

    Parameters
    ----------
    fraction : float
        The part of each array's entries that is sent, in ``(0, 1]``; at least one is.
    seed : int
        What the places follow from; the strategy draws one for each round.

    Examples
    --------
    >>> values, shared = np.arange(4.0), SharedRandomK(0.5).drawn(7, "w")
    >>> code = shared.compress(values, None)
    >>> code["values"].tolist(), shared.expand(code, 4, values.dtype).tolist()
    ([0.0, 2.0], [0.0, 0.0, 4.0, 0.0])
    """

    seed: int = field(default=0, repr=False)

    @property
    def draws_alike(self) -> bool:
        return True

    def drawn(self, seed: int, key: str) -> SharedRandomK:
        return replace(self, seed=Seeds(seed).child(key).integer())

    def count(self, size: int) -> int:
        """Return how many entries of so many are sent."""
        return _count(self.fraction, size)

    def compress(self, values: NDArray, rng: np.random.Generator) -> Parts:
        return {"values": values[self._places(values.size)]}

    def expand(self, parts: Parts, size: int, dtype: DType) -> NDArray:
        dense = np.zeros(size, dtype)
        dense[self._places(size)] = _sized(parts["values"], self.count(size))
        return np.asarray(dense * dtype.type(1 + self.omega(size)))

    @cached_property
    def _known(self) -> dict[int, NDArray]:
        return {}

    def _places(self, size: int) -> NDArray:
        if size not in self._known:
            # A hash is the same everywhere; of NumPy's own drawing no release promises that.
            bits = hashlib.shake_256(b"umbel-shared-k %d" % self.seed).digest(8 * size)
            words, count = np.frombuffer(bits, "<u8"), self.count(size)
            chosen = np.argpartition(words, count - 1)[:count] if count else words
            self._known[size] = np.sort(chosen.astype(np.intp))
        return self._known[size]


@dataclass(frozen=True)
class QSGD(Compressor):
    """Rounds at random to ``levels`` levels of the norm: unbiased.

    ``|v| sign(v_i) xi_i``, where ``xi_i`` is one of the two multiples of ``1 / levels`` beside
    ``|v_i| / |v|``, and that on average. ``omega = min(n / levels^2, sqrt(n) / levels)``. Alistarh
    et al. 2017, arXiv:1610.02132, section 3.1. Half a byte an entry up to 7 levels, one up to 127,
    two above.

    Parameters
    ----------
    levels : int
        From 1 to 32767.
    """

    levels: int

    def __post_init__(self) -> None:
        if not is_whole_number(self.levels) or not 1 <= self.levels <= 32767:
            raise ConfigError(f"QSGD({self.levels!r}) has no code", hint="give 1 to 32767 levels")

    def omega(self, size: int) -> float:
        return min(size / self.levels**2, math.sqrt(size) / self.levels)

    def compress(self, values: NDArray, rng: np.random.Generator) -> Parts:
        norm = float(np.linalg.norm(values.astype(np.float64)))
        scaled = np.abs(values) / (norm or 1.0) * self.levels
        steps = np.minimum(np.floor(scaled + rng.random(values.size)), self.levels)
        signed = np.where(values < 0, -steps, steps).astype(np.int16)
        return {"norm": np.array([norm]), "levels": self._pack(signed)}

    def expand(self, parts: Parts, size: int, dtype: DType) -> NDArray:
        step = dtype.type(_number(parts["norm"]) / self.levels)
        return np.asarray(self._unpack(parts["levels"], size).astype(dtype) * step)

    def _pack(self, signed: NDArray) -> NDArray:
        if self.levels > 7:
            return signed.astype(np.int8) if self.levels <= 127 else signed
        nibbles = np.zeros(signed.size + signed.size % 2, np.uint8)
        nibbles[: signed.size] = signed + 8
        return np.asarray(nibbles[::2] | nibbles[1::2] << 4)

    def _unpack(self, packed: NDArray, size: int) -> NDArray:
        if self.levels > 7:
            return _sized(packed, size)
        _sized(packed, (size + 1) // 2)
        nibbles = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:size]
        return nibbles.astype(np.int8) - np.int8(8)


@dataclass(frozen=True)
class Sign(Compressor):
    """Sends the signs, one bit each, and the mean magnitude.

    To be used with error feedback: Karimireddy et al. 2019, arXiv:1901.09847.

    Examples
    --------
    >>> values = np.array([1.0, -3.0])
    >>> Sign().expand(Sign().compress(values, None), 2, values.dtype).tolist()
    [2.0, -2.0]
    """

    def compress(self, values: NDArray, rng: np.random.Generator) -> Parts:
        mean = float(np.abs(values).mean(dtype=np.float64)) if values.size else 0.0
        return {"mean": np.array([mean]), "signs": np.packbits(values >= 0)}

    def expand(self, parts: Parts, size: int, dtype: DType) -> NDArray:
        signs = np.unpackbits(_sized(parts["signs"], (size + 7) // 8), count=size)
        mean = dtype.type(_number(parts["mean"]))
        return np.asarray(np.where(signs, mean, -mean))


@dataclass(frozen=True)
class Cast(Compressor):
    """Sends a narrower type: float16, bfloat16, or int8 with one scale an array.

    Rounded to the nearest; what is too large for float16 becomes its largest number.

    Parameters
    ----------
    dtype : {"float16", "bfloat16", "int8"}
        The type.
    """

    dtype: Literal["float16", "bfloat16", "int8"]

    def __post_init__(self) -> None:
        if self.dtype not in ("float16", "bfloat16", "int8"):
            raise ConfigError(
                f"Cast({self.dtype!r}) is not known", hint="give float16, bfloat16 or int8"
            )

    def compress(self, values: NDArray, rng: np.random.Generator) -> Parts:
        if self.dtype != "int8":
            return {"values": narrowed(values, self.dtype)}
        scale = float(np.abs(values).max(initial=0.0)) / 127
        steps = np.rint(values / (scale or 1.0))
        return {"scale": np.array([scale]), "steps": np.clip(steps, -127, 127).astype(np.int8)}

    def expand(self, parts: Parts, size: int, dtype: DType) -> NDArray:
        if self.dtype != "int8":
            return _sized(parts["values"], size).astype(dtype)
        scale = dtype.type(_number(parts["scale"]))
        return np.asarray(_sized(parts["steps"], size).astype(dtype) * scale)


def narrowed(values: NDArray, dtype: Literal["float16", "bfloat16"]) -> NDArray:
    """Return the values rounded to half the width; too large ones become the largest.

    Examples
    --------
    >>> narrowed(np.array([1.0, 1e9]), "float16").tolist()
    [1.0, 65504.0]
    """
    bound = 65504.0 if dtype == "float16" else np.inf
    narrow = Array(dtype, (0,), "raw", b"").view().dtype
    return np.asarray(np.clip(values, -bound, bound).astype(narrow))


def check_compressor(compressor: object) -> None:
    """Raise ``ConfigError`` if it is no compressor (but its class, say)."""
    if not isinstance(compressor, Compressor):
        raise ConfigError(
            f"a compressor is needed, got {compressor!r}", hint="one of umbel.updates: TopK(0.01)"
        )


def _check_fraction(fraction: float) -> None:
    if not is_number(fraction) or not 0 < fraction <= 1:
        raise ConfigError(f"a fraction of entries lies in (0, 1], got {fraction!r}")


def _count(fraction: float, size: int) -> int:
    return min(size, max(1, round(fraction * size)))


def _sparse(values: NDArray, places: NDArray) -> Parts:
    places = np.sort(places)
    narrow = np.uint16 if values.size <= 1 << 16 else np.uint32
    return {"places": places.astype(narrow), "values": values[places]}


def _dense(parts: Parts, size: int, dtype: DType) -> NDArray:
    places, values = parts["places"], parts["values"]
    if places.dtype.kind != "u" or places.ndim != 1 or (places.size and places.max() >= size):
        raise ValueError("its places lie outside of the array")
    dense = np.zeros(size, dtype)
    dense[places] = _sized(values, places.size)
    return dense


def _sized(values: NDArray, size: int) -> NDArray:
    if values.shape != (size,):
        raise ValueError(f"a part has shape {values.shape}, not {(size,)}")
    return values


def _number(values: NDArray) -> float:
    return float(_sized(values, 1)[0])
