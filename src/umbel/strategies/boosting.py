"""The base of strategies whose model is XGBoost's: bytes, not numbers to average."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from umbel.base import ConfigError, RejectedReply
from umbel.records import ArrayRecord, MetricRecord
from umbel.serverapp import OnShortfall
from umbel.strategies.fedavg import FedAvg, MetricsAggrFn
from umbel.updates import (
    Aggregator,
    Booster,
    Both,
    Collect,
    CollectBoosters,
    NDArray,
    WeightedMean,
    read_booster,
)


class BoostingOptions(TypedDict, total=False):
    """The keyword arguments of :class:`FedAvg` that mean something for trees."""

    min_available_nodes: int
    weighted_by_key: str
    arrayrecord_key: str
    configrecord_key: str
    train_metrics_aggr_fn: MetricsAggrFn | None
    evaluate_metrics_aggr_fn: MetricsAggrFn | None
    min_completion: int | float
    on_shortfall: OnShortfall
    max_repeats: int


class Boosting(FedAvg, ABC):
    """FedAvg's rounds and metrics around a global model of XGBoost's."""

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        current = self._current()
        boosters = CollectBoosters(None if current is None else current.kind)
        mean = WeightedMean(self.weighted_by_key, with_arrays=False)
        told: Aggregator[Any] = (
            mean if self.train_metrics_aggr_fn is None else Both(mean, Collect())
        )
        return Both(boosters, told)

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        models, told = value
        metrics = self._metrics(told, self.train_metrics_aggr_fn)[1]
        raw = self._next([model.tobytes() for model in models])
        key = next(iter(self.current_arrays), "0")
        return ArrayRecord({key: _as_array(raw)}) if raw is not None else None, metrics

    @abstractmethod
    def _next(self, replies: Sequence[bytes]) -> bytes | None:
        """Return the global model after this round, ``None`` to keep it."""

    def _current(self) -> Booster | None:
        """Return the global model, ``None`` before there is one."""
        arrays = list(self.current_arrays.views().values())
        raw = arrays[0].tobytes() if arrays else b""
        try:
            if len(arrays) > 1 or (arrays and arrays[0].dtype != np.uint8):
                raise RejectedReply(f"it is {len(arrays)} arrays of {arrays[0].dtype}")
            return read_booster(raw) if raw else None
        except RejectedReply as error:
            raise ConfigError(
                f"the global model is none of XGBoost's: {error.message}",
                hint="begin with ArrayRecord([np.zeros(0, np.uint8)]), or with the bytes of "
                'save_raw("json")',
            ) from error


def _as_array(raw: bytes) -> NDArray:
    array: NDArray = np.frombuffer(raw, np.uint8)  # read-only, as bytes are
    return array
