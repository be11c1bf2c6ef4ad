"""FedAdagrad: FedAvg with Adagrad on the server."""

from __future__ import annotations

from typing import Unpack

from umbel.strategies.fedavg import FedAvgOptions
from umbel.strategies.fedopt import FedOpt, check_step
from umbel.updates import Schedule, scale_by_adagrad


class FedAdagrad(FedOpt):
    """FedAvg with Adagrad on the server: ``x <- x + eta u / (sqrt(v) + tau)``.

    With ``u = mean - x``: ``v <- v + u^2``, from zero. Reddi et al. 2021, arXiv:2003.00295,
    algorithm 2.

    Parameters
    ----------
    eta : float or callable, default=0.1
        The server's learning rate, positive, or a schedule ``eta(step)``.
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
    >>> FedAdagrad(eta=0.05, fraction_train=0.1).summary()
    'FedAdagrad(fraction_train=0.1, fraction_evaluate=1.0, weighted by num-examples)'
    """

    def __init__(
        self,
        *,
        eta: float | Schedule = 1e-1,
        tau: float = 1e-3,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        check_step("FedAdagrad", eta, tau)
        super().__init__(scale_by_adagrad(tau), eta, **options)
