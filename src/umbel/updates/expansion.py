"""Replies that carry compressed updates, expanded before they are folded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from umbel.base import ConfigError, RejectedReply
from umbel.records import ArrayRecord, ConfigRecord, RecordDict
from umbel.updates.aggregator import Aggregator
from umbel.updates.arrays import DType, NDArray, cast_back, sum_dtype
from umbel.updates.compressor import Compressor, Parts
from umbel.updates.mapped import Mapped
from umbel.updates.mean import Mean
from umbel.updates.names import trainable

COMPRESSION_RECORD = "compression"
"""The record with which the server says how clients draw, and they say how they compressed."""

_SEPARATOR = "::"


def part_name(key: str, part: str) -> str:
    """Return what a part of the code of array ``key`` is called in a reply."""
    return f"{key}{_SEPARATOR}{part}"


def expanded(
    compressor: Compressor, parts: Parts, size: int, dtype: DType, *, shrink: bool
) -> NDArray:
    """Return the flat array that a code stands for; divided by ``1 + omega`` for error feedback."""
    values = compressor.expand(parts, size, dtype)
    omega = compressor.omega(size) if shrink else 0.0
    return values / dtype.type(1 + omega) if omega else values


class OfUpdates(Mapped[Any]):
    """A fold over compressed updates, whose outcome is moved to where the model is.

    Any fold will do that moves along with its replies, ``f(x + u, x + v) = x + f(u, v)``: means,
    medians, and selections by distance do.

    Parameters
    ----------
    inner : Aggregator
        The fold of models. The first ``Mean`` in its outcome is the model's.
    compressor : Compressor
        That of the clients.
    model : ArrayRecord
        The model that was sent. It stays here when the aggregator travels to the workers.
    record : str
        The name of the record with the arrays in replies.
    dense : sequence of str
        Patterns of the names of arrays that the clients send as they are.
    seed : int, default=0
        What the clients draw by, where they draw alike.
    """

    def __init__(
        self,
        inner: Aggregator[Any],
        compressor: Compressor,
        model: ArrayRecord,
        record: str,
        dense: Sequence[str],
        seed: int = 0,
    ) -> None:
        super().__init__(inner, self._expand)
        self._compressor = compressor
        self._record = record
        self._model: ArrayRecord | None = model
        self._sent: RecordDict | None = None
        moving = trainable(model.views(), dense)
        self._moving = {key: (value.shape, sum_dtype(value.dtype)) for key, value in moving.items()}
        self._codes = {key: compressor.drawn(seed, key) for key in moving}

    def __getstate__(self) -> dict[str, Any]:
        # What is bound to this object is bound anew in its copy.
        state = {**vars(self), "_model": None, "_sent": None}
        del state["function"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.function = self._expand

    def answering(self, sent: RecordDict) -> None:
        if sent is self._sent:
            return
        self._sent = sent
        # What comes are updates: they answer a model at the origin.
        arrays = ArrayRecord(sent.array_records[self._record])
        for key, (shape, dtype) in self._moving.items():
            arrays[key] = np.zeros(shape, dtype)
        self.inner.answering(RecordDict({**sent, self._record: arrays}))

    def finish(self, acc: Any) -> Any:
        outcome, found = self._moved(super().finish(acc))
        if not found:
            raise ConfigError(
                f"the outcome of {type(self.inner).__name__} holds no Mean to be moved",
                hint="compress the replies of a strategy that folds them into a mean model",
            )
        return outcome

    def _expand(self, content: RecordDict) -> RecordDict:
        told, arrays = content.get(COMPRESSION_RECORD), content.get(self._record)
        if not isinstance(told, ConfigRecord) or not isinstance(arrays, ArrayRecord):
            raise RejectedReply(
                "it is not compressed",
                hint=f"give the client app mods=[compression_mod({self._compressor!r})]",
            )
        if told.get("method") != repr(self._compressor):
            raise RejectedReply(
                f"it is compressed by {told.get('method')!s}, not by {self._compressor!r}",
                hint="give compression_mod and with_compression the same compressor",
            )
        full: dict[str, NDArray] = {}
        codes: dict[str, Parts] = {}
        for name, value in arrays.lent().items():
            key, separator, part = name.rpartition(_SEPARATOR)
            if separator and key in self._moving:
                codes.setdefault(key, {})[part] = value
            elif name in self._moving:
                raise RejectedReply("it carries an array as it is", key=name)
            else:
                full[name] = value
        for key, parts in codes.items():
            full[key] = self._decoded(key, parts, shrink=bool(told.get("error-feedback")))
        kept = {k: record for k, record in content.items() if k != COMPRESSION_RECORD}
        return RecordDict({**kept, self._record: ArrayRecord(full)})

    def _decoded(self, key: str, parts: Parts, *, shrink: bool) -> NDArray:
        shape, dtype = self._moving[key]
        try:
            flat = expanded(self._codes[key], parts, math.prod(shape), dtype, shrink=shrink)
        except (KeyError, ValueError, TypeError) as error:
            raise RejectedReply(
                f"its array cannot be expanded: {error}", hint="update the client", key=key
            ) from error
        return flat.reshape(shape)

    def _moved(self, outcome: Any) -> tuple[Any, bool]:
        """Return the outcome with its first mean moved, and whether there was one."""
        if isinstance(outcome, Mean) and outcome.arrays is not None and self._model is not None:
            model, moved = self._model.views(), dict(outcome.arrays.views())
            for key in moved.keys() & self._moving.keys():
                step, value = moved[key], model[key]
                moved[key] = cast_back(np.asarray(value.astype(step.dtype) + step), value.dtype)
                moved[key].flags.writeable = False
            return replace(outcome, arrays=ArrayRecord(moved)), True
        if isinstance(outcome, tuple):
            parts = list(outcome)
            for i, part in enumerate(parts):
                parts[i], found = self._moved(part)
                if found:
                    return tuple(parts), True
        return outcome, False
