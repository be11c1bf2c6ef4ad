"""Replies on disk, and their columns in memory, for what has to see all replies at once.

Each reply is one file, a message body as the codec writes it. A *column* is one number of the model
over all replies. Columns are read in blocks that fit a bound on memory, however large the replies.
"""

from __future__ import annotations

import math
import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from umbel.base import AggregationError, for_each, mapped
from umbel.records import ArrayRecord, RecordDict, decode, encode
from umbel.updates.arrays import Arrays, DType, NDArray, cast_back, common_dtype, sum_dtype

_CHUNK_BYTES = 1 << 21
"""A block is worked on in chunks of this size, which stay in the cache."""

_STRIPES = 4
"""Inner products are summed in so many parts, whatever the number of threads."""

Vectors = dict[DType, NDArray]
"""A model as one vector for each type that its numbers are summed in."""


def write_reply(folder: Path, arrays: ArrayRecord) -> str:
    """Write a reply to a file of its own in ``folder`` and return the file's name."""
    handle, path = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "wb") as file:
        file.writelines(encode(RecordDict({"arrays": arrays})))
    return Path(path).name


class Run(NamedTuple):
    """Neighbouring columns that lie side by side in a file, in one dtype."""

    start: int
    stop: int
    offset: int
    dtype: DType


class Stack:
    """The replies of a cohort as rows, and the numbers of the model as columns.

    Parameters
    ----------
    files : sequence of Path
        One for each reply, in the order of the cohort.
    origin : mapping of str to ndarray
        The model that the clients began with; row ``-1`` where it is asked for.
    weights : sequence of float
        The weight of each reply.
    measured : sequence of float
        The metric that the rule asked for, of each reply.
    memory_limit_bytes : int
        How much memory a block of columns may take.

    Raises
    ------
    AggregationError
        Replies hold different keys or shapes.
    """

    def __init__(
        self,
        files: Sequence[Path],
        origin: Arrays,
        weights: Sequence[float],
        measured: Sequence[float],
        memory_limit_bytes: int,
    ) -> None:
        self.rows = len(files)
        self.weights = np.asarray(weights, np.float64)
        self.measured = np.asarray(measured, np.float64)
        self._files = files
        self._origin = origin
        self._limit = memory_limit_bytes
        found = [_places(file) for file in files]
        self._shapes = {key: shape for key, (_, _, shape) in found[0].items()}
        self._dtypes: dict[str, DType] = {key: dtype for key, (_, dtype, _) in found[0].items()}
        for places in found[1:]:
            if {key: shape for key, (_, _, shape) in places.items()} != self._shapes:
                raise AggregationError(
                    "replies hold different arrays",
                    hint="every client must reply with the same keys and shapes",
                )
            for key, (_, dtype, _) in places.items():
                self._dtypes[key] = common_dtype(self._dtypes[key], dtype)
        self._keys: dict[DType, list[str]] = {}
        for key, dtype in self._dtypes.items():
            self._keys.setdefault(_real(sum_dtype(dtype)), []).append(key)
        self._runs = [{dtype: self._lay_out(p, dtype) for dtype in self._keys} for p in found]

    def map_columns(
        self, function: Callable[[NDArray], NDArray], rows: Sequence[int] | None = None
    ) -> Vectors:
        """Return what ``function`` makes of sorted columns; it gets them one in each row."""

        def work(block: NDArray, out: NDArray) -> None:
            columns = np.ascontiguousarray(block.T)
            columns.sort(axis=1)
            out[...] = function(columns)

        return self._map(range(self.rows) if rows is None else rows, work)

    def combine(self, coefficients: NDArray) -> Vectors:
        """Return the sum of rows times coefficients; one more coefficient is the origin's."""
        # What counts for nothing is not read, so that no infinity in it can spoil the sum.
        rows = [int(row) for row in np.flatnonzero(coefficients)]

        def work(block: NDArray, out: NDArray) -> None:
            factors = coefficients[rows].astype(block.dtype)
            np.multiply(block[0], factors[0], out=out)
            for row, factor in zip(block[1:], factors[1:], strict=True):
                out += row * factor

        return self._map(rows, work)

    def squared_distances(self, *, with_origin: bool = False) -> NDArray:
        """Return the squared L2 distance between any two rows, in float64.

        The origin, if asked for, is the last row. Distances come from inner products of rows less
        their mean, summed in float64: an outlier costs the others few of their digits.
        """
        from threadpoolctl import threadpool_limits

        count = self.rows + with_origin
        grams = np.zeros((_STRIPES, count, count))

        # Threads of our own, each with its own sum: those of BLAS wait for each other, which is
        # slow where others use the machine, and their number must not decide the last bits.
        with threadpool_limits(limits=1, user_api="blas"):
            for _, _, _, block in self._blocks(range(count)):

                def add(stripe: int, block: NDArray = block) -> None:
                    for part in _chunks(block)[stripe::_STRIPES]:
                        wide = block[:, part].astype(np.float64)
                        wide -= wide.mean(axis=0)
                        grams[stripe] += wide @ wide.T

                for_each(add, range(_STRIPES), block.nbytes)
        gram: NDArray = grams.sum(axis=0)
        norms = np.diagonal(gram)
        squared: NDArray = np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0.0)
        np.fill_diagonal(squared, 0.0)
        return squared

    def squared_distances_to_origin(self) -> NDArray:
        """Return the squared L2 distance of each reply from the origin, in float64."""
        total = np.zeros(self.rows)
        for _, _, _, block in self._blocks(range(self.rows + 1)):
            for part in _chunks(block):
                wide = block[:-1, part].astype(np.float64) - block[-1, part]
                total += np.einsum("ij,ij->i", wide, wide)
        return total

    def named(self, vectors: Vectors) -> dict[str, NDArray]:
        """Return a model by name, in the replies' own dtypes."""
        named = dict.fromkeys(self._shapes, np.empty(0))
        for dtype, keys in self._keys.items():
            start = 0
            for key in keys:
                kind = sum_dtype(self._dtypes[key])
                stop = start + math.prod(self._shapes[key]) * _reals(kind)
                values = vectors[dtype][start:stop].view(kind).reshape(self._shapes[key])
                named[key] = cast_back(values, self._dtypes[key].newbyteorder("="))
                start = stop
        return named

    def _map(self, rows: Sequence[int], work: Callable[[NDArray, NDArray], None]) -> Vectors:
        out = {dtype: np.empty(self._width(dtype), dtype) for dtype in self._keys}
        for dtype, start, stop, block in self._blocks(rows):
            target = out[dtype][start:stop]

            def one(part: slice, block: NDArray = block, target: NDArray = target) -> None:
                work(block[:, part], target[part])

            for_each(one, _chunks(block), block.nbytes)
        return out

    def _blocks(self, rows: Sequence[int]) -> Iterator[tuple[DType, int, int, NDArray]]:
        """Read all columns of some rows, block by block, each into the same memory."""
        for dtype in self._keys:
            width = self._width(dtype)
            most = max(1, self._limit // max(1, len(rows) * dtype.itemsize))
            memory = np.empty(len(rows) * min(most, width), dtype)
            for start in range(0, width, most):
                stop = min(width, start + most)
                block = memory[: len(rows) * (stop - start)].reshape(len(rows), stop - start)

                def read(
                    place: int, start: int = start, dtype: DType = dtype, block: NDArray = block
                ) -> None:
                    self._read(rows[place], dtype, start, block[place])

                for_each(read, range(len(rows)), block.nbytes)
                yield dtype, start, stop, block

    def _read(self, row: int, dtype: DType, start: int, out: NDArray) -> None:
        if row == self.rows:
            self._read_origin(dtype, start, out)
            return
        runs = self._runs[row][dtype]
        first = max(0, bisect_right(runs, start, key=lambda run: run.start) - 1)
        stop = start + len(out)
        with self._files[row].open("rb", buffering=0) as file:
            for run in runs[first:]:
                low, high = max(run.start, start), min(run.stop, stop)
                if low >= high:
                    break
                target = out[low - start : high - start]
                same = run.dtype == dtype
                values = target if same else np.empty(high - low, run.dtype)
                file.seek(run.offset + (low - run.start) * run.dtype.itemsize)
                _read_all(values.view(np.uint8).data, file.readinto)
                if not same:
                    target[...] = values

    def _read_origin(self, dtype: DType, start: int, out: NDArray) -> None:
        place, stop = 0, start + len(out)
        for key in self._keys[dtype]:
            value = np.ascontiguousarray(self._origin[key]).reshape(-1)
            value = value.astype(sum_dtype(self._dtypes[key]), copy=False).view(dtype)
            low, high = max(place, start), min(place + value.size, stop)
            if low < high:
                out[low - start : high - start] = value[low - place : high - place]
            place += value.size

    def _width(self, dtype: DType) -> int:
        return sum(self._items(key) for key in self._keys[dtype])

    def _items(self, key: str) -> int:
        return math.prod(self._shapes[key]) * _reals(sum_dtype(self._dtypes[key]))

    def _lay_out(self, places: Mapping[str, Place], dtype: DType) -> list[Run]:
        """Return where a reply's columns lie in its file."""
        runs: list[Run] = []
        start = 0
        for key in self._keys[dtype]:
            offset, stored, _ = places[key]
            kind, stop = _real(stored), start + self._items(key)
            if kind is stored and sum_dtype(self._dtypes[key]) != dtype:
                raise AggregationError("real and complex replies do not mix", key=key)
            last = runs[-1] if runs else None
            end = -1 if last is None else last.offset + (last.stop - last.start) * kind.itemsize
            if last is not None and last.dtype == kind and end == offset:
                runs[-1] = last._replace(stop=stop)
            elif stop > start:
                runs.append(Run(start, stop, offset, kind))
            start = stop
        return runs


Place = tuple[int, DType, tuple[int, ...]]
"""Where an array lies in a file, and what it is."""


def _places(file: Path) -> dict[str, Place]:
    body = mapped(file)
    base = np.frombuffer(body, np.uint8).ctypes.data
    views = decode(body).array_records["arrays"].views()
    return {key: (view.ctypes.data - base, view.dtype, view.shape) for key, view in views.items()}


def _read_all(view: memoryview, readinto: Callable[[memoryview], int | None]) -> None:
    while view:
        got = readinto(view)
        if not got:
            raise AggregationError(
                "a reply on disk is shorter than it was", hint="is the disk full?"
            )
        view = view[got:]


def _chunks(block: NDArray) -> list[slice]:
    """Cut a block into columns that stay in the cache."""
    step = max(1, _CHUNK_BYTES // max(1, block.shape[0] * block.itemsize))
    return [slice(low, low + step) for low in range(0, block.shape[1], step)]


def _real(dtype: DType) -> DType:
    """Return the type of the parts of complex numbers; any other type is returned as it is."""
    return np.empty(0, dtype).real.dtype if dtype.kind == "c" else dtype


def _reals(dtype: DType) -> int:
    return 2 if dtype.kind == "c" else 1
