"""FedProx: FedAvg whose clients stay near the global model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

from umbel.base import ConfigError, is_number
from umbel.records import ArrayRecord, ConfigRecord, Message
from umbel.serverapp import Grid
from umbel.strategies.fedavg import FedAvg, FedAvgOptions


class FedProx(FedAvg):
    """FedAvg whose clients add ``mu / 2 ||y - x||^2`` to their loss.

    Li et al. 2020, arXiv:1812.06127, algorithm 2. The client reads ``config["proximal-mu"]`` and
    adds the term itself. ``proximal_mu=0`` is FedAvg.

    Parameters
    ----------
    proximal_mu : float, default=0.0
        ``mu``, not negative.
    **options
        Those of :class:`FedAvg`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> FedProx(proximal_mu=0.1).proximal_mu
    0.1
    """

    def __init__(self, *, proximal_mu: float = 0.0, **options: Unpack[FedAvgOptions]) -> None:
        if not is_number(proximal_mu) or proximal_mu < 0:
            raise ConfigError(f"proximal_mu is not negative, got {proximal_mu!r}")
        super().__init__(**options)
        self.proximal_mu = proximal_mu

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        config = config.copy()
        config["proximal-mu"] = self.proximal_mu
        return super().configure_train(server_round, arrays, config, grid)
