"""FedDyn: clients and server keep gradients that make the local optima agree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

import numpy as np

from umbel.base import ConfigError, is_number
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord
from umbel.serverapp import Grid
from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import (
    Aggregator,
    Arrays,
    Both,
    Collect,
    State,
    Transform,
    UniformMean,
    WeightedMean,
    zeros,
)


class FedDyn(FedAvg):
    r"""Dynamic regularisation: ``x <- mean(y) - h / alpha``.

    ``h <- h - (alpha / N) sum_k (y_k - x)`` over the clients of the round, out of ``N`` nodes that
    are connected. Clients minimise their loss minus ``<g_k, y>`` plus ``alpha / 2 |y - x|^2``,
    which ``umbel.clientapp.FedDynTerm`` adds to their gradients. Acar et al. 2021,
    arXiv:2111.04263, algorithm 1. Here ``-h / alpha`` is what is kept, so that ``alpha`` reaches
    the clients alone, in the config under ``"feddyn-alpha"``.

    The mean of the arrays is plain, as in the paper; metrics are weighted as in FedAvg. Statistics
    of batch normalisation take the mean.

    Parameters
    ----------
    alpha : float, default=0.01
        The strength of the regularisation, positive.
    **options
        Those of :class:`FedAvg`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> FedDyn(alpha=0.1).summary()
    'FedDyn(fraction_train=1.0, fraction_evaluate=1.0, weighted by num-examples)'
    """

    def __init__(self, *, alpha: float = 0.01, **options: Unpack[FedAvgOptions]) -> None:
        if not is_number(alpha) or alpha <= 0:
            raise ConfigError(f"FedDyn(alpha={alpha!r}) cannot step", hint="alpha is positive")
        super().__init__(**options, server_optimizer=self._accumulate())
        self.alpha = alpha
        self._nodes = 1
        self._replies = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        config["feddyn-alpha"] = self.alpha
        messages = super().configure_train(server_round, arrays, config, grid)
        self._nodes = len(grid.get_node_ids())
        return messages

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        shapes = {key: array.shape for key, array in self.current_arrays.items()}
        arrays = UniformMean(
            self.arrayrecord_key, shapes=shapes, require_finite=self.require_finite
        )
        if self.train_metrics_aggr_fn is not None:
            return Both(arrays, Collect())
        return Both(arrays, WeightedMean(self.weighted_by_key, with_arrays=False))

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        mean, told = value
        self._replies = mean.count
        aggregate = self.train_metrics_aggr_fn
        metrics = told.metrics if aggregate is None else aggregate(told, self.weighted_by_key)
        if self.server_optimizer is None:
            return mean.arrays, metrics
        return self._server_step(self.server_optimizer, mean.arrays), metrics

    def _accumulate(self) -> Transform:
        """Return ``u <- u + (m / N) update``, ``step = update + u``, for ``u = -h / alpha``."""

        def apply(update: Arrays, state: State) -> tuple[Arrays, State]:
            part = self._replies / self._nodes
            held = {k: np.asarray(u + part * update[k], u.dtype) for k, u in state["u"].items()}
            step = {k: np.asarray(update[k] + u, u.dtype) for k, u in held.items()}
            return step, {"u": held}

        return Transform(lambda arrays: {"u": zeros(arrays)}, apply)
