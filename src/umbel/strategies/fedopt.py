"""The base of strategies that step with an adaptive server optimizer."""

from __future__ import annotations

from typing import Unpack

from umbel.base import ConfigError, is_number
from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import Schedule, Transform, chain, scale, scale_by_schedule


class FedOpt(FedAvg):
    """FedAvg with ``x <- x + eta d`` for a direction ``d`` that a transform makes of the update.

    Reddi et al. 2021, arXiv:2003.00295, algorithm 1.

    Parameters
    ----------
    direction : Transform
        Makes the direction of the mean update.
    eta : float or callable
        The server's learning rate, or a schedule of it: ``eta(step)``, with steps from 1.
    **options
        Those of :class:`FedAvg`.

    Raises
    ------
    ConfigError
        The learning rate is not positive.

    Examples
    --------
    >>> from umbel.updates import cosine_decay, momentum
    >>> strategy = FedOpt(momentum(0.9), cosine_decay(1.0, steps=100))
    """

    def __init__(
        self, direction: Transform, eta: float | Schedule, **options: Unpack[FedAvgOptions]
    ) -> None:
        if not isinstance(direction, Transform):
            raise ConfigError(
                f"direction is a {type(direction).__name__}, not a Transform",
                hint="take one of umbel.updates, for instance momentum(0.9)",
            )
        if not _is_rate(eta):
            raise ConfigError(f"a server's learning rate is positive, got eta={eta!r}")
        last = scale_by_schedule(eta) if callable(eta) else scale(eta)
        super().__init__(**options, server_optimizer=chain(direction, last))


def check_step(
    name: str, eta: float | Schedule, tau: float, beta_1: float = 0.0, beta_2: float = 0.0
) -> None:
    """Raise ``ConfigError`` if a server optimizer cannot step with these parameters."""
    numbers = all(map(is_number, (tau, beta_1, beta_2)))
    if _is_rate(eta) and numbers and tau > 0 and 0 <= beta_1 < 1 and 0 <= beta_2 < 1:
        return
    raise ConfigError(
        f"{name}(eta={eta!r}, beta_1={beta_1!r}, beta_2={beta_2!r}, tau={tau!r}) cannot step",
        hint="eta and tau are positive, beta_1 and beta_2 lie in [0, 1)",
    )


def _is_rate(eta: float | Schedule) -> bool:
    return callable(eta) or (is_number(eta) and eta > 0)
