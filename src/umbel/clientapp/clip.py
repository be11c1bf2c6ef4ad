"""Mod that bounds how far one client can move the model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from umbel.base import UsageError
from umbel.clientapp.onion import Handler, Mod
from umbel.records import Array, Context, Message, RecordDict

_CHUNK_ELEMENTS = 1 << 15
"""Elements worked on at a time: large enough for speed, small enough to stay in the cache."""

Float64s = np.ndarray[Any, np.dtype[np.float64]]
Place = tuple[str, str]
"""Name of a record and of an array in it."""


def clipping_mod(max_norm: float) -> Mod:
    r"""Return a mod that clips the update of a reply to a global L2 norm.

    The update is the arrays of the reply minus those of the message, over all pairs of the same
    record and array name whose reply has a real floating-point dtype. An update :math:`u` with
    :math:`\|u\|_2 > C` becomes :math:`u \cdot C / \|u\|_2`, all arrays scaled alike (McMahan et
    al., "Learning Differentially Private Recurrent Language Models", 2018, section 3.1). Arrays
    without a partner, and those of integers, are left alone. A reply within the bound is
    passed on untouched; in one that is clipped the dtypes stay, so that rounding to them may leave
    the norm a little beside the bound.

    Parameters
    ----------
    max_norm : float
        The bound ``C``, finite and positive.

    Raises
    ------
    UsageError
        ``max_norm`` is not a positive number. When a message is handled: the update holds NaN or
        infinity, an array changed its shape, or no array of the reply has a partner.

    Examples
    --------
    >>> from umbel.clientapp import ClientApp
    >>> from umbel.records import ArrayRecord
    >>> app = ClientApp(mods=[clipping_mod(1.0)])
    >>> @app.train()
    ... def train(message, context):
    ...     arrays = ArrayRecord({"w": np.array([3.0, 4.0])})
    ...     return Message(RecordDict({"arrays": arrays}), reply_to=message)
    >>> model = RecordDict({"arrays": ArrayRecord({"w": np.zeros(2)})})
    >>> context = Context(run_id="r", node_id=1, node_config={}, state=RecordDict(), run_config={})
    >>> app(Message(model, 1, "train"), context).content["arrays"]["w"].numpy()
    array([0.6, 0.8])
    """
    if isinstance(max_norm, bool) or not isinstance(max_norm, (int, float)):
        raise UsageError(
            f"max_norm is {getattr(max_norm, '__name__', max_norm)!r}, not a number",
            hint="write mods=[clipping_mod(1.0)]",
        )
    if not (math.isfinite(max_norm) and max_norm > 0):
        raise UsageError(f"max_norm is {max_norm}", hint="the bound must be finite and above zero")

    def clip(message: Message, context: Context, call_next: Handler) -> Message:
        if message.has_content():
            message.content = _read_only(message.content)
        before = _arrays_of(message)
        reply = call_next(message, context)
        after = _arrays_of(reply)
        if before and after:
            pairs = _updated(before, after)
            norm = _update_norm(pairs)
            if norm > max_norm:
                reply.content = _clipped(reply.content, pairs, max_norm / norm)
        return reply

    return clip


def _read_only(content: RecordDict) -> RecordDict:
    """Return the content around read-only views of its arrays.

    Records may hand their buffers out to a handler that trains in place; what it received would
    then change along with what it returns, and the update would look like zero.
    """
    content = content.copy()
    for record in content.array_records.values():
        for key, array in list(record.items()):
            record[key] = Array(array.view())
    return content


def _arrays_of(message: Message) -> dict[Place, Array]:
    if not message.has_content():
        return {}
    return {
        (name, key): array
        for name, record in message.content.array_records.items()
        for key, array in record.items()
    }


def _updated(
    before: dict[Place, Array], after: dict[Place, Array]
) -> dict[Place, tuple[Array, Array]]:
    """Return the pairs (before, after) that make up the update."""
    shared = [place for place in after if place in before]
    if not shared:
        raise UsageError(
            "no array of the reply has the name of one in the message, so nothing can be clipped",
            hint="reply under the names received, or leave the mod off this handler",
            received=", ".join(map("/".join, before)),
            replied=", ".join(map("/".join, after)),
        )
    pairs = {}
    for place in shared:
        old, new = before[place], after[place]
        if old.shape != new.shape:
            raise UsageError(
                f"the update cannot be clipped: an array came with shape {old.shape} and was "
                f"returned with shape {new.shape}",
                key="/".join(place),
            )
        # By name, so that bfloat16 and float8, which NumPy does not know as floating, are in.
        if new.dtype.startswith(("float", "bfloat")) and old is not new:
            pairs[place] = old, new
    return pairs


def _update_norm(pairs: dict[Place, tuple[Array, Array]]) -> float:
    squares = {place: _squared_distance(*pair) for place, pair in pairs.items()}
    total = math.fsum(squares.values())
    if not math.isfinite(total):
        bad = ["/".join(place) for place, square in squares.items() if not math.isfinite(square)]
        raise UsageError(
            "the update cannot be clipped: its norm is not finite (NaN, infinity, or too large)",
            hint="training diverged: lower the learning rate, or check the data for NaN",
            arrays=", ".join(bad),
        )
    return math.sqrt(total)


def _squared_distance(old: Array, new: Array) -> float:
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at the sum
        for before, after in _chunks(old, new):
            difference = after - before
            # Not a BLAS product: its sum depends on the number of threads.
            total += float(np.square(difference, out=difference).sum())
    return total


def _chunks(old: Array, new: Array) -> Iterator[tuple[Float64s, Float64s]]:
    """Yield both arrays in C order, piece by piece, in double precision.

    The cuts depend on the size alone, so that the layout in memory does not change a sum.
    """
    befores, afters = _flat(old.view()), _flat(new.view())
    for start in range(0, math.prod(new.shape), _CHUNK_ELEMENTS):
        piece = slice(start, start + _CHUNK_ELEMENTS)
        yield np.asarray(befores[piece], np.float64), np.asarray(afters[piece], np.float64)


def _flat(array: np.ndarray[Any, Any]) -> Any:
    """Return something that slices like the flattened array, without a copy of the whole."""
    return array.reshape(-1) if array.flags.c_contiguous else array.flat


def _clipped(
    content: RecordDict, pairs: dict[Place, tuple[Array, Array]], factor: float
) -> RecordDict:
    # A copy: the handler may keep the records it returned, for instance in the context's state.
    content = content.copy()
    for (name, key), (old, new) in pairs.items():
        content.array_records[name][key] = Array(_scaled(old, new, factor))
    return content


def _scaled(old: Array, new: Array, factor: float) -> np.ndarray[Any, Any]:
    """Return ``old + factor * (new - old)`` with the dtype of ``new``."""
    result = np.empty(new.shape, new.view().dtype)
    flat, start = result.reshape(-1), 0
    for before, after in _chunks(old, new):
        stop = start + len(after)
        flat[start:stop] = before + factor * (after - before)
        start = stop
    return result
