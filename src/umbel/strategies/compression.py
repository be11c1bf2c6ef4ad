"""Wrapper that lets any strategy fold compressed updates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from umbel.base import ConfigError
from umbel.records import Array, ArrayRecord, ConfigRecord, Message
from umbel.serverapp import Grid, Strategy
from umbel.strategies.secagg import SecurelyAggregated
from umbel.strategies.wrapper import Wrapper
from umbel.updates import (
    BATCH_STATISTICS,
    COMPRESSION_RECORD,
    Aggregator,
    Compressor,
    OfUpdates,
    check_compressor,
    checked_patterns,
    narrowed,
    trainable,
)

Narrow: TypeAlias = Literal["float16", "bfloat16"]


class Compressed(Wrapper):
    """A strategy whose clients send compressed updates; :func:`with_compression` makes it.

    Replies are expanded in the worker that folds them, and folded as the strategy does.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    compressor : Compressor
        The clients'.
    dense : sequence of str
        Patterns of the names of arrays that the clients send as they are.
    downlink : {"float16", "bfloat16"}, optional
        The type in which models travel to the clients.
    """

    def __init__(
        self,
        strategy: Strategy,
        compressor: Compressor,
        dense: Sequence[str],
        downlink: Narrow | None = None,
    ) -> None:
        super().__init__(strategy, "compressed")
        if isinstance(strategy, Compressed):
            raise ConfigError("the strategy is compressed already", hint="wrap it once")
        check_compressor(compressor)
        self.compressor = compressor
        self.dense = checked_patterns(dense, "dense")
        self.downlink = downlink
        self._seed = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = self._lent().configure_train(server_round, arrays, config, grid)
        if not self.compressor.draws_alike or self.compressor.keeps_all:
            return self._narrow(messages)
        self._seed = self.shared_seed(grid.run)
        return self._told(self._narrow(messages), ConfigRecord({"seed": self._seed}))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = self._lent().configure_evaluate(server_round, arrays, config, grid)
        return self._narrow(messages)

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        inner = self._lent()
        if self.compressor.keeps_all:
            return inner.train_aggregator(server_round)
        model, record = self.current_arrays, self.arrayrecord_key
        # What comes are updates, so a rule that looks from the model at the replies looks from 0.
        inner.current_arrays = _origin(model, self.dense)
        try:
            folds = inner.train_aggregator(server_round)
        finally:
            inner.current_arrays = model
        return OfUpdates(folds, self.compressor, model, record, self.dense, self._seed)

    def summary(self) -> str:
        return f"{self.inner.summary()} of updates by {self.compressor!r}"

    def _told(self, messages: Iterable[Message], seed: ConfigRecord) -> Iterable[Message]:
        for message in messages:
            message.content[COMPRESSION_RECORD] = seed
            yield message

    def _narrow(self, messages: Iterable[Message]) -> Iterable[Message]:
        """Yield the messages with models in the downlink's type; each model is rounded once."""
        done: dict[int, tuple[ArrayRecord, ArrayRecord, ConfigRecord]] = {}
        for message in messages:
            model = message.content.array_records.get(self.arrayrecord_key)
            if self.downlink is not None and model is not None:
                if id(model) not in done:
                    done[id(model)] = (model, *_in_type(model, self.downlink, self.dense))
                _, message.content[self.arrayrecord_key], told = done[id(model)]
                message.content["downlink"] = told
            yield message


def with_compression(
    strategy: Strategy,
    compressor: Compressor,
    *,
    dense: Sequence[str] = BATCH_STATISTICS,
    downlink: Narrow | None = None,
) -> Compressed:
    """Return a strategy that does the same with updates which the clients compress.

    The client app has ``mods=[umbel.clientapp.compression_mod(compressor)]`` with the same
    compressor. What travels is the code, from the client to the worker that folds it. Any strategy
    will do that folds its replies into a ``Mean`` and does not look at them one by one.

    Parameters
    ----------
    strategy : Strategy
        What to wrap; it is used from here on through the wrapper alone.
    compressor : Compressor
        ``TopK``, ``RandomK``, ``SharedRandomK``, ``QSGD``, ``Sign`` or ``Cast`` of
        ``umbel.updates``. One that keeps all changes nothing, bit for bit.
    dense : sequence of str
        Patterns of array names that travel as they are; the mod must have the same.
    downlink : {"float16", "bfloat16"}, optional
        The type in which models travel to the clients; as they are by default. The mod widens them,
        and the update that comes back is added to the server's own, wide model.

    Raises
    ------
    ConfigError
        The strategy is one under secure aggregation; or it overrides ``aggregate_train``,
        ``aggregate_evaluate`` or ``start``, and so would be handed codes instead of models; or
        ``downlink`` is no such type. In a round: its fold gives no ``Mean``.

    Examples
    --------
    >>> from umbel.strategies import FedAvg
    >>> from umbel.updates import TopK
    >>> with_compression(FedAvg(), TopK(0.01)).summary()
    'FedAvg(fraction_train=1.0, fraction_evaluate=1.0, weighted by num-examples) of updates by
    TopK(fraction=0.01)'
    """
    if isinstance(strategy, SecurelyAggregated):
        raise ConfigError(
            "the server cannot expand codes that it gets under masks",
            hint="with_secagg(..., compressor=SharedRandomK(0.1)); the noise of "
            "with_distributed_dp is made for whole updates, and goes with no compressor",
        )
    if downlink not in (None, "float16", "bfloat16"):
        raise ConfigError(
            f"downlink={downlink!r} is not known", hint='give "float16" or "bfloat16"'
        )
    return Compressed(strategy, compressor, dense, downlink)


def _origin(model: ArrayRecord, dense: Sequence[str]) -> ArrayRecord:
    """Return the model with zeros in place of the arrays whose updates travel."""
    moving = trainable(model.views(), dense)
    zeros = {key: np.zeros(value.shape, value.dtype) for key, value in moving.items()}
    return ArrayRecord({key: zeros.get(key, array) for key, array in model.items()})


def _in_type(
    model: ArrayRecord, downlink: Narrow, dense: Sequence[str]
) -> tuple[ArrayRecord, ConfigRecord]:
    """Return the model with its wide arrays narrowed, and the types that these had."""
    wide = {
        key: value
        for key, value in trainable(model.views(), dense).items()
        if value.dtype.kind == "f" and value.dtype.itemsize >= 4
    }
    arrays = ArrayRecord(model)
    arrays.update({key: Array(narrowed(value, downlink)) for key, value in wide.items()})
    return arrays, ConfigRecord({key: value.dtype.name for key, value in wide.items()})
