"""FedYogi: FedAvg with Yogi on the server."""

from __future__ import annotations

from typing import Unpack

from umbel.strategies.fedavg import FedAvgOptions
from umbel.strategies.fedopt import FedOpt, check_step
from umbel.updates import Schedule, scale_by_yogi


class FedYogi(FedOpt):
    """FedAvg with Yogi on the server: ``x <- x + eta m / (sqrt(v) + tau)``.

    With ``u = mean - x``: ``m <- beta_1 m + (1 - beta_1) u`` and
    ``v <- v - (1 - beta_2) u^2 sign(v - u^2)``, both from zero. Reddi et al. 2021,
    arXiv:2003.00295, algorithm 2.

    Parameters
    ----------
    eta : float or callable, default=0.01
        The server's learning rate, positive, or a schedule ``eta(step)``.
    beta_1, beta_2 : float, default=0.9, 0.99
        How slowly the two moments forget, in ``[0, 1)``.
    tau : float, default=0.001
        What keeps the step bounded where updates are small, positive.
    **options
        Those of :class:`FedAvg`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> FedYogi(eta=0.05, fraction_train=0.1).summary()
    'FedYogi(fraction_train=0.1, fraction_evaluate=1.0, weighted by num-examples)'
    """

    def __init__(
        self,
        *,
        eta: float | Schedule = 1e-2,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        tau: float = 1e-3,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        check_step("FedYogi", eta, tau, beta_1, beta_2)
        super().__init__(scale_by_yogi(beta_1, beta_2, tau), eta, **options)
