"""FedAdam: FedAvg with Adam on the server."""

from __future__ import annotations

from math import sqrt
from typing import Unpack

from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import chain, scale, scale_by_adam, scale_by_schedule


class FedAdam(FedAvg):
    """FedAvg with Adam on the server: ``x <- x + eta m / (sqrt(v) + tau)``.

    Reddi et al. 2021, arXiv:2003.00295, algorithm 2. The paper corrects no bias; Flower scales
    ``eta`` in round ``r`` by ``sqrt(1 - beta_2^(r+1)) / (1 - beta_1^(r+1))``, and so does this
    class unless told otherwise, so that runs agree with Flower's.

    Parameters
    ----------
    eta : float, default=0.1
        The server's learning rate.
    beta_1, beta_2 : float, default=0.9, 0.99
        How slowly the two moments forget, in ``[0, 1)``.
    tau : float, default=0.001
        What keeps the step bounded where updates are small.
    bias_correction : bool, default=True
        Whether ``eta`` is scaled as above.
    **options
        Those of :class:`FedAvg`.
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
        def rate(step: int) -> float:
            return eta * sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1))

        last = scale_by_schedule(rate) if bias_correction else scale(eta)
        super().__init__(
            **options, server_optimizer=chain(scale_by_adam(beta_1, beta_2, tau), last)
        )
