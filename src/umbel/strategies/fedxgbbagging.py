"""FedXgbBagging: the clients' new trees all join the global ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from umbel.serverapp import Sampler
from umbel.strategies.boosting import Boosting, BoostingOptions
from umbel.updates import join_boosters, read_booster


class BaggingOptions(BoostingOptions, total=False):
    """The keyword arguments of :class:`FedXgbBagging`."""

    min_train_nodes: int
    min_evaluate_nodes: int
    train_sampler: Sampler | None
    evaluate_sampler: Sampler | None


class FedXgbBagging(Boosting):
    """XGBoost's trees of all clients of a round, appended to the global model in their order.

    The prediction is the sum of all trees, so each client's step counts whole: with ``n`` clients
    in a round, divide the learning rate of one by ``n``. There is no paper; XGBoost is Chen and
    Guestrin 2016, arXiv:1603.02754. The server needs no XGBoost.

    The model is one array of uint8, empty to begin with, and then the JSON that
    ``xgboost.Booster().load_model(bytearray(array.numpy()))`` takes. A client boosts it by some
    iterations and replies with these alone: ``booster[before:].save_raw("json")``, where ``before``
    is the ``num_boosted_rounds()`` of what it got, or 0. Everything else than trees, the base score
    too, is that of the first reply ever: set ``base_score`` if clients' labels are distributed
    differently.

    Parameters
    ----------
    fraction_train, fraction_evaluate : float, default=1.0
        The part of the nodes that takes part in a round; 0 leaves the phase out.
    **options
        Those of :class:`FedAvg`, but for what is about numbers in arrays. Weights count for metrics
        alone.

    Raises
    ------
    ConfigError
        A parameter is out of its range. In a round: the initial model is not XGBoost's.
    AggregationError
        In the first round: clients have other columns, or another objective, than others. Later
        the reply that differs from the global model is rejected.

    Examples
    --------
    >>> FedXgbBagging(fraction_train=0.5).summary()
    'FedXgbBagging(fraction_train=0.5, fraction_evaluate=1.0, weighted by num-examples)'
    """

    def __init__(
        self,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        **options: Unpack[BaggingOptions],
    ) -> None:
        super().__init__(fraction_train, fraction_evaluate, **options)

    def _next(self, replies: Sequence[bytes]) -> bytes | None:
        boosters = [read_booster(raw) for raw in replies]
        current = self._current()
        if current is None:
            return join_boosters(boosters).to_json()
        if not any(booster.forest["trees"] for booster in boosters):
            return None
        return join_boosters([current, *boosters]).to_json()
