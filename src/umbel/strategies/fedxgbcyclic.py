"""FedXgbCyclic: one model goes round, and each client in its turn adds trees to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from umbel.base import ROUND_TIMEOUT_S, AggregationError, ConfigError, Seeds
from umbel.records import MessageType
from umbel.serverapp import Grid, Sampler
from umbel.strategies.boosting import Boosting, BoostingOptions


class FedXgbCyclic(Boosting):
    """One client a round, in turn; the model that it returns is the global one.

    It is XGBoost (Chen and Guestrin 2016, arXiv:1603.02754) with the data of another client in
    each round. Nodes take turns by their ids: in round ``r`` it is the one at place ``r - 1``,
    modulo their number, and the next one if the round is repeated. It also evaluates.

    The model is as in :class:`FedXgbBagging`, and a client replies with all of it:
    ``booster.save_raw("json")`` after some iterations. The server needs no XGBoost.

    Parameters
    ----------
    fraction_train, fraction_evaluate : {0, 1}, default=1
        0 leaves the phase out.
    **options
        Those of :class:`FedAvg`, but for how many nodes take part and what is about numbers in
        arrays.

    Raises
    ------
    ConfigError
        A parameter is out of its range. In a round: the initial model is not XGBoost's.

    Examples
    --------
    >>> FedXgbCyclic(fraction_evaluate=0).summary()
    'FedXgbCyclic(fraction_train=1.0, fraction_evaluate=0, weighted by num-examples)'
    """

    def __init__(
        self,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        **options: Unpack[BoostingOptions],
    ) -> None:
        super().__init__(fraction_train, fraction_evaluate, **options)

    def sampler(self, message_type: str) -> Sampler:
        is_train = message_type == MessageType.TRAIN
        fraction = self.fraction_train if is_train else self.fraction_evaluate
        if fraction not in (0, 1):
            raise ConfigError(
                f"FedXgbCyclic takes one node a round, and was given a fraction of {fraction}",
                hint="give 1, or 0 to leave the phase out",
            )

        def in_turn(grid: Grid, seeds: Seeds) -> list[int]:
            if fraction == 0:
                return []
            nodes = sorted(grid.wait_for_nodes(max(1, self.min_available_nodes), ROUND_TIMEOUT_S))
            return [nodes[(grid.run.server_round - 1 + grid.run.attempt) % len(nodes)]]

        return in_turn

    def _next(self, replies: Sequence[bytes]) -> bytes | None:
        if len(replies) > 1:
            raise AggregationError(
                f"{len(replies)} clients returned a model, and only one can be the next",
                hint="send to one node a round, or take FedXgbBagging",
            )
        return replies[0]
