"""Centered clipping: the mean of updates that are clipped around a centre."""

from __future__ import annotations

from typing import Unpack

from umbel.base import ConfigError, is_number, is_whole_number
from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.updates import CenteredClippingRule


class CenteredClipping(KeptReplies):
    """``v <- v + mean((x_k - v) min(1, tau / ||x_k - v||))``, from the model that was sent.

    Karimireddy et al. 2021, arXiv:2012.10333, equation 4; without weights. The paper clips momenta
    that workers keep; here what a client replies is what is clipped.

    Parameters
    ----------
    tau : float, default=10.0
        The clipping radius, positive.
    iterations : int, default=1
        How often the centre moves.
    **options
        Those of :class:`KeptReplies`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> strategy = CenteredClipping(tau=1.0, iterations=3)
    """

    def __init__(
        self, *, tau: float = 10.0, iterations: int = 1, **options: Unpack[KeptRepliesOptions]
    ) -> None:
        if not (is_number(tau) and tau > 0 and is_whole_number(iterations) and iterations >= 1):
            raise ConfigError(
                f"tau is positive and iterations at least 1, got {tau!r} and {iterations!r}"
            )
        super().__init__(CenteredClippingRule(tau, iterations), **options)
