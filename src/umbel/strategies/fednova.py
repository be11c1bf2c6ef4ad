"""FedNova: every client's update counts per step that it took."""

from __future__ import annotations

from typing import Any, Unpack

from umbel.base import StateError
from umbel.records import ArrayRecord, MetricRecord
from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import Aggregator, Both, NormalizedMean, StretchedMean, WeightedMean, scale


class FedNova(FedAvg):
    """Normalised averaging: ``x <- x + tau_eff sum_k p_k (x_k - x) / a_k``.

    ``a_k`` is the norm of client ``k``'s local steps (their number, for plain SGD), ``p_k`` its
    share of the examples, and ``tau_eff = sum_k p_k a_k``. Clients that train for longer pull no
    harder. Where all report the same norm this is FedAvg, bit for bit. Wang et al. 2020,
    arXiv:2007.07481, equations 4 and 8.

    Each client reports its norm, ``metrics["local-norm"] = local_norm(steps, momentum=...)`` with
    ``umbel.clientapp.local_norm``. Statistics of batch normalisation and whole numbers take the
    mean weighted by ``n_k / a_k``.

    Parameters
    ----------
    local_norm_key : str, default="local-norm"
        The metric with ``a_k``.
    **options
        Those of :class:`FedAvg`.

    Examples
    --------
    >>> FedNova(fraction_train=0.5).summary()
    'FedNova(fraction_train=0.5, fraction_evaluate=1.0, weighted by num-examples)'
    """

    def __init__(
        self, *, local_norm_key: str = "local-norm", **options: Unpack[FedAvgOptions]
    ) -> None:
        super().__init__(**options)
        self.local_norm_key = local_norm_key

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        folds = super().train_aggregator(server_round)
        mean = folds.first if isinstance(folds, Both) else folds
        if not isinstance(mean, WeightedMean):
            raise StateError(f"FedAvg folds with a {type(mean).__name__}")
        normalized = NormalizedMean(mean, self.local_norm_key)
        return Both(normalized, folds.second) if isinstance(folds, Both) else normalized

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        mean, metrics = self._metrics(value, self.train_metrics_aggr_fn)
        stretch = mean.stretch if isinstance(mean, StretchedMean) else 1.0
        if mean.arrays is None or stretch == 1.0:
            return mean.arrays, metrics
        return self._server_step(scale(stretch), mean.arrays), metrics
