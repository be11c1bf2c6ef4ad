"""Models and replies that checks are made with: what real models hold, in small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

import numpy as np

from umbel.records import Array, ArrayRecord, MetricRecord, RecordDict
from umbel.updates import Arrays, NDArray

Check = Callable[[Any], None]
"""``check(thing, or what makes one)`` raises ``AssertionError`` if the contract is broken."""

Reply = Callable[[Arrays, int], RecordDict]
"""``reply(arrays, num_examples)`` gives the content of a client's reply."""

SHAPES: Mapping[str, tuple[int, ...]] = {"w": (4, 3), "b": (3,), "scale": (), "none": (0, 2)}
"""A matrix, a vector, a 0-d array as batch normalisation has, and an empty one."""

COHORT = 11
"""More members than a block of the reduction tree holds."""

BFLOAT16 = Array("bfloat16", (0,), "raw", b"").view().dtype
_FLOATS = ("float32", "float64", "float16", BFLOAT16)
_WHOLE = ("int64", "uint8", "bool")


def asserting(check: Check) -> Check:
    """Return the check with all that the thing raises unasked turned into ``AssertionError``."""

    @wraps(check)
    def run(thing: Any) -> None:
        try:
            check(thing)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(
                f"{type(error).__name__} was raised by what is an ordinary call: {error}. The "
                f"traceback of that error, above this one, shows where."
            ) from error

    return run


def plain_reply(arrays: Arrays, num_examples: int) -> RecordDict:
    """Return a reply to training as most clients send it, with a weight and two metrics."""
    metrics = {"num-examples": num_examples, "loss": 1 / (1 + num_examples), "norms": [0.5, 2.0]}
    return RecordDict({"arrays": ArrayRecord(dict(arrays)), "metrics": MetricRecord(metrics)})


def model(shapes: Mapping[str, tuple[int, ...]], dtype: Any, member: int) -> dict[str, NDArray]:
    """Return the arrays of one member: no two are alike, and sums of them are inexact.

    Examples
    --------
    >>> model({"w": (2,)}, "float64", 0)["w"].round(3).tolist()
    [0.841, -0.757]
    """
    arrays = {}
    for place, (key, shape) in enumerate(shapes.items()):
        size = int(np.prod(shape))
        wave = np.sin(np.arange(1, size + 1) ** 2 * (1.0 + 0.7 * member) + place)
        if np.dtype(dtype).kind in "iub":
            wave = np.abs(np.rint(wave * 100))
        arrays[key] = wave.reshape(shape).astype(dtype)
    return arrays


def replies(
    shapes: Mapping[str, tuple[int, ...]], reply: Reply
) -> Iterator[tuple[str, list[RecordDict]]]:
    """Yield cohorts of replies by the name of what is special about their arrays."""
    for dtype in (*_FLOATS, *_WHOLE):
        name = np.dtype(dtype).name
        yield name, [reply(model(shapes, dtype, i), 1 + i % 4) for i in range(COHORT)]
    mixed = [
        {
            key: model({key: shape}, (*_FLOATS, *_WHOLE)[place % 7], i)[key]
            for place, (key, shape) in enumerate(shapes.items())
        }
        for i in range(COHORT)
    ]
    yield "dtypes_by_array", [reply(arrays, 1 + i % 4) for i, arrays in enumerate(mixed)]
    yield (
        "dtypes_by_reply",
        [reply(model(shapes, _FLOATS[i % 2], i), 1 + i % 4) for i in range(COHORT)],
    )
    zeros = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    yield "zeros", [reply(zeros, 1 + i % 4) for i in range(COHORT)]


def changed(
    content: RecordDict, change: Callable[[dict[str, NDArray]], dict[str, NDArray]]
) -> RecordDict:
    """Return a copy of a reply with every record of arrays changed."""
    return RecordDict(
        {
            name: ArrayRecord(change({key: a.numpy() for key, a in record.items()}))
            if isinstance(record, ArrayRecord)
            else record.copy()
            for name, record in content.items()
        }
    )


def permuted(arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    """Return the same arrays with their keys in another order."""
    return dict(reversed(arrays.items()))


def strided(arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    """Return the same values in memory that is not contiguous."""
    views = {}
    for key, value in arrays.items():
        wide = np.zeros((*value.shape, 2), value.dtype)
        wide[..., 0] = value
        views[key] = wide[..., 0]
    return views


def big_endian(arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    """Return the same values with their bytes in network order."""
    return {key: value.astype(value.dtype.newbyteorder(">")) for key, value in arrays.items()}


def with_nan(arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    """Return the same arrays with a NaN in the first that can hold one."""
    for key, value in arrays.items():
        if value.size and value.dtype.kind in "fc":
            spoiled = value.copy()
            spoiled.reshape(-1)[-1] = np.nan
            return {**arrays, key: spoiled}
    return arrays
