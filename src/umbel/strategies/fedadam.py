"""FedAdam: FedAvg with Adam on the server."""

from __future__ import annotations

from math import sqrt
from typing import Unpack

from umbel.base import ConfigError
from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import chain, scale, scale_by_adam, scale_by_schedule


class FedAdam(FedAvg):
    """FedAvg with Adam on the server: ``x <- x + eta m / (sqrt(v) + tau)``.

    With ``u = mean - x``: ``m <- beta_1 m + (1 - beta_1) u``, ``v <- beta_2 v + (1 - beta_2) u^2``,
    both from zero. Reddi et al. 2021, arXiv:2003.00295, algorithm 2. The paper corrects no bias;
    Flower scales ``eta`` in round ``r`` by ``sqrt(1 - beta_2^(r+1)) / (1 - beta_1^(r+1))``, and so
    does this class unless told otherwise, so that runs agree with Flower's. What counts are the
    steps taken: a round that was skipped is none.

    Parameters
    ----------
    eta : float, default=0.1
        The server's learning rate, positive.
    beta_1, beta_2 : float, default=0.9, 0.99
        How slowly the two moments forget, in ``[0, 1)``.
    tau : float, default=0.001
        What keeps the step bounded where updates are small, positive.
    bias_correction : bool, default=True
        Whether ``eta`` is scaled as above.
    **options
        Those of :class:`FedAvg`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> FedAdam(eta=0.01, fraction_train=0.1).summary()
    'FedAdam(fraction_train=0.1, fraction_evaluate=1.0, weighted by num-examples)'
    """

    def __init__(
        self,
        *,
        eta: float = 1e-1,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        tau: float = 1e-3,
        bias_correction: bool = True,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        if not (eta > 0 and tau > 0 and 0 <= beta_1 < 1 and 0 <= beta_2 < 1):
            raise ConfigError(
                f"FedAdam(eta={eta}, beta_1={beta_1}, beta_2={beta_2}, tau={tau}) cannot step",
                hint="eta and tau are positive, beta_1 and beta_2 lie in [0, 1)",
            )

        def rate(step: int) -> float:
            return eta * sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1))

        last = scale_by_schedule(rate) if bias_correction else scale(eta)
        super().__init__(
            **options, server_optimizer=chain(scale_by_adam(beta_1, beta_2, tau), last)
        )
