"""FedAvgM: FedAvg with momentum on the server."""

from __future__ import annotations

from typing import Unpack

from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import Transform, chain, momentum, scale


class FedAvgM(FedAvg):
    """FedAvg with server momentum: ``v <- mu v + (mean - x)``, ``x <- x + lr v``.

    Hsu et al. 2019, arXiv:1909.06335. A learning rate of 1 and a momentum of 0 are FedAvg, bit for
    bit.

    Parameters
    ----------
    server_learning_rate : float, default=1.0
        ``lr``.
    server_momentum : float, default=0.0
        ``mu``.
    **options
        Those of :class:`FedAvg`.
    """

    def __init__(
        self,
        *,
        server_learning_rate: float = 1.0,
        server_momentum: float = 0.0,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        parts: list[Transform] = []
        if server_momentum != 0.0:
            parts.append(momentum(server_momentum))
        if server_learning_rate != 1.0:
            parts.append(scale(server_learning_rate))
        super().__init__(**options, server_optimizer=chain(*parts) if parts else None)
