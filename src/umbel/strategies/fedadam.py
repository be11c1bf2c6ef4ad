"""FedAdam: FedAvg with Adam on the server."""

from __future__ import annotations

from math import sqrt
from typing import Unpack

from umbel.strategies.fedavg import FedAvgOptions
from umbel.strategies.fedopt import FedOpt, check_step
from umbel.updates import Schedule, scale_by_adam


class FedAdam(FedOpt):
    """FedAvg with Adam on the server: ``x <- x + eta m / (sqrt(v) + tau)``.

    With ``u = mean - x``: ``m <- beta_1 m + (1 - beta_1) u``, ``v <- beta_2 v + (1 - beta_2) u^2``,
    both from zero. Reddi et al. 2021, arXiv:2003.00295, algorithm 2. The paper corrects no bias;
    Flower scales ``eta`` in round ``r`` by ``sqrt(1 - beta_2^(r+1)) / (1 - beta_1^(r+1))``, and so
    does this class unless told otherwise, so that runs agree with Flower's. What counts are the
    steps taken: a round that was skipped is none.

    Parameters
    ----------
    eta : float or callable, default=0.1
        The server's learning rate, positive, or a schedule ``eta(step)``.
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
        eta: float | Schedule = 1e-1,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        tau: float = 1e-3,
        bias_correction: bool = True,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        check_step("FedAdam", eta, tau, beta_1, beta_2)

        def corrected(step: int) -> float:
            rate = eta(step) if callable(eta) else eta
            return rate * sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1))

        direction = scale_by_adam(beta_1, beta_2, tau)
        super().__init__(direction, corrected if bias_correction else eta, **options)
