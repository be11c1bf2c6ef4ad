"""A weighted sum of named arrays, at the speed of memory.

A model is added either array by array, large arrays in pieces that stay in the cache; or, when it
is small, as one flat vector, because then the calls cost more than the arithmetic.
"""

from __future__ import annotations

import math

import numpy as np

from umbel.base import RejectedReply, for_each
from umbel.updates.arrays import Arrays, DType, NDArray, common_dtype, is_whole, sum_dtype

_CHUNK_ITEMS = 1 << 16
"""Pieces of this many items stay in the cache; a model of fewer is added flat."""

_SPAN_ITEMS = 1 << 20
"""What one thread adds at a time, piece by piece; which one does it changes no bit."""


class ArraySum:
    """The sum of ``weight * arrays`` over the replies added so far.

    Where replies hold an array in different dtypes, the sum takes the one that holds them all.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The first reply's arrays.
    weight : float
        Its weight.

    Attributes
    ----------
    shapes : dict of str to tuple of int
        The shape of each array.
    dtypes : dict of str to numpy.dtype
        The dtype that the replies held each array in.

    Raises
    ------
    RejectedReply
        An array does not hold numbers.

    Examples
    --------
    >>> total = ArraySum({"w": np.ones(2, np.float32)}, 3.0)
    >>> total.add({"w": np.full(2, 2.0, np.float32)}, 1.0)
    >>> total.named()["w"].tolist()
    [5.0, 5.0]
    """

    __slots__ = ("_arrays", "_flat", "_scratch", "dtypes", "shapes")

    def __init__(self, arrays: Arrays, weight: float) -> None:
        self.shapes = {key: value.shape for key, value in arrays.items()}
        self.dtypes = {key: value.dtype for key, value in arrays.items()}
        self._flat: NDArray | None = None
        self._arrays: dict[str, NDArray] = {}
        self._scratch: NDArray | None = None
        values = list(arrays.values())
        if _is_flat(values):
            self._flat = np.concatenate([value.reshape(-1) for value in values])
            self._flat *= weight
            return
        for key, dtype in _sum_dtypes(self.dtypes).items():
            self._arrays[key] = np.asarray(
                np.multiply(arrays[key], weight, dtype=dtype, casting="unsafe", order="C")
            )

    @classmethod
    def of_sums(cls, sums: Arrays, dtypes: dict[str, DType]) -> ArraySum:
        """Return a sum around arrays that were summed before; they may be read-only."""
        total = object.__new__(cls)
        total.shapes = {key: value.shape for key, value in sums.items()}
        total.dtypes = dtypes
        total._arrays = dict(sums)
        total._flat = total._scratch = None
        return total

    def add(self, arrays: Arrays, weight: float) -> None:
        """Add a reply with the same keys and shapes; the sum must not be read-only.

        Raises
        ------
        RejectedReply
            An array does not hold numbers; nothing was added.
        """
        if self.dtypes != {key: value.dtype for key, value in arrays.items()}:
            # Where sums are merged a reply is multiplied in its own type: so it is here.
            self.merge(ArraySum(arrays, weight))
            return
        if self._flat is not None:
            if self._scratch is None:
                self._scratch = np.empty_like(self._flat)
            # In the order of the sum: another client may name the same arrays in another.
            flats = [arrays[key].reshape(-1) for key in self.shapes]
            np.concatenate(flats, out=self._scratch)
            self._scratch *= weight
            self._flat += self._scratch
            return
        spans = [
            (self._arrays[key], value, start)
            for key, value in arrays.items()
            for start in range(0, value.size or 1, _SPAN_ITEMS)
        ]
        size = sum(total.nbytes for total in self._arrays.values())
        for_each(lambda span: _add_span(*span, weight), spans, size)

    def merge(self, other: ArraySum) -> None:
        """Add another sum with the same keys and shapes, which is spent then."""
        if other.dtypes != self.dtypes:
            self._widen(other.dtypes)
        in_order = list(self.shapes) == list(other.shapes)
        if self._flat is not None and other._flat is not None and in_order:
            with np.errstate(over="ignore", invalid="ignore"):
                self._flat += other._flat
            return
        mine, theirs = self.named(), other.named()

        def add(key: str) -> None:
            total, more = mine[key], theirs[key]
            # In place where that can be: what came through shared memory or a file is read-only.
            spare = (a for a in (total, more) if a.flags.writeable and a.dtype == total.dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                mine[key] = np.asarray(
                    np.add(total, more, out=next(spare, None), dtype=total.dtype)
                )

        for_each(add, list(mine), sum(total.nbytes for total in mine.values()))
        self._arrays, self._flat = mine, None

    def scaled(self, factor: float) -> ArraySum:
        """Return this sum multiplied by ``factor``; it stays as it is."""
        with np.errstate(over="ignore", invalid="ignore"):
            products = {
                key: np.asarray(np.multiply(total, factor, dtype=total.dtype))
                for key, total in self.named().items()
            }
        return ArraySum.of_sums(products, self.dtypes)

    def named(self) -> dict[str, NDArray]:
        """Return the sums by name."""
        if self._flat is None:
            return self._arrays
        named, start = {}, 0
        for key, shape in self.shapes.items():
            stop = start + math.prod(shape)
            named[key] = self._flat[start:stop].reshape(shape)
            start = stop
        return named

    def _widen(self, dtypes: dict[str, DType]) -> None:
        """Make room for arrays of these dtypes beside those summed so far."""
        common = {key: common_dtype(self.dtypes[key], dtype) for key, dtype in dtypes.items()}
        sums = _sum_dtypes(common)
        if any(total.dtype != sums[key] for key, total in self.named().items()):
            self._arrays = {
                key: total.astype(sums[key], copy=False) for key, total in self.named().items()
            }
            self._flat = None
        self.dtypes = {key: common[key] for key in self.dtypes}


def _add_span(total: NDArray, value: NDArray, start: int, weight: float) -> None:
    """Add what an array holds from ``start`` on, to the end of the span."""
    if value.size <= _CHUNK_ITEMS or not (value.flags.c_contiguous and total.flags.c_contiguous):
        if start == 0:
            total += np.multiply(value, weight, dtype=total.dtype, casting="unsafe")
        return
    flat_value, flat_total = value.reshape(-1), total.reshape(-1)
    products = np.empty(_CHUNK_ITEMS, total.dtype)
    for low in range(start, min(start + _SPAN_ITEMS, value.size), _CHUNK_ITEMS):
        part, sums = flat_value[low : low + _CHUNK_ITEMS], flat_total[low : low + _CHUNK_ITEMS]
        product = products[: part.size]
        np.multiply(part, weight, out=product, dtype=total.dtype, casting="unsafe")
        np.add(sums, product, out=sums)


def _sum_dtypes(dtypes: dict[str, DType]) -> dict[str, DType]:
    sums = {}
    for key, dtype in dtypes.items():
        try:
            sums[key] = sum_dtype(dtype)
        except RejectedReply as error:
            error.context["key"] = key
            raise
    return sums


def _is_flat(values: list[NDArray]) -> bool:
    """Whether these arrays are few enough items, of one dtype that sums in itself."""
    if not values:
        return False
    dtype = values[0].dtype
    if not dtype.isnative or dtype.char not in "fdFD":
        return False
    items = 0
    for value in values:
        if value.dtype != dtype:
            return False
        items += value.size
    return items <= _CHUNK_ITEMS


def all_finite(values: list[NDArray]) -> bool:
    """Whether no array holds NaN or infinity; whole numbers always pass.

    Large numbers make NumPy warn of an overflow that means nothing here: turn the warning off.

    Examples
    --------
    >>> with np.errstate(over="ignore"):
    ...     all_finite([np.array([1e30, -1e30], np.float32)]), all_finite([np.array([np.nan])])
    (True, False)
    """
    squares = 0.0
    for value in values:
        dtype = value.dtype
        if dtype.char in "fd" and dtype.isnative and value.flags.c_contiguous:
            # One read at the speed of memory, and one test for all of them.
            flat = value.reshape(-1)
            squares += float(np.dot(flat, flat))
        elif not _is_finite(value):
            return False
    # Squares of finite numbers may overflow, hence the second look.
    return math.isfinite(squares) or all(_is_finite(value) for value in values)


def _is_finite(value: NDArray) -> bool:
    dtype = value.dtype
    if is_whole(dtype) or dtype.kind in "SUMm" or dtype.type is np.void:
        return True
    return bool(np.isfinite(value).all())
