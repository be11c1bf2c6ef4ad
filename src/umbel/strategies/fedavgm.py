"""FedAvgM: FedAvg with momentum on the server."""

from __future__ import annotations

from typing import Unpack

from umbel.base import ConfigError, is_number
from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import Transform, chain, momentum, scale


class FedAvgM(FedAvg):
    """FedAvg with server momentum: ``v <- mu v + (mean - x)``, ``x <- x + lr v``.

    Hsu et al. 2019, arXiv:1909.06335. A learning rate of 1 and a momentum of 0 are FedAvg, bit for
    bit.

    Parameters
    ----------
    server_learning_rate : float, default=1.0
        ``lr``, positive.
    server_momentum : float, default=0.0
        ``mu``, in [0, 1).
    **options
        Those of :class:`FedAvg`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> FedAvgM(server_momentum=0.9).server_optimizer is not None
    True
    """

    def __init__(
        self,
        *,
        server_learning_rate: float = 1.0,
        server_momentum: float = 0.0,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        numbers = all(map(is_number, (server_learning_rate, server_momentum)))
        if not (numbers and server_learning_rate > 0 and 0 <= server_momentum < 1):
            raise ConfigError(
                f"FedAvgM(server_learning_rate={server_learning_rate!r}, "
                f"server_momentum={server_momentum!r}) cannot step",
                hint="the learning rate is positive, the momentum lies in [0, 1)",
            )
        parts: list[Transform] = []
        if server_momentum != 0.0:
            parts.append(momentum(server_momentum))
        if server_learning_rate != 1.0:
            parts.append(scale(server_learning_rate))
        super().__init__(**options, server_optimizer=chain(*parts) if parts else None)
