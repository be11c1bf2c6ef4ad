"""RFA: the geometric median of the replies."""

from __future__ import annotations

from typing import Unpack

from umbel.base import ConfigError, is_number, is_whole_number
from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.updates import GeometricMedianRule


class GeometricMedian(KeptReplies):
    """The point with the least weighted sum of distances from the replies (RFA).

    Smoothed Weiszfeld steps from the weighted mean: ``v <- sum_k b_k x_k / sum_k b_k`` with
    ``b_k = a_k / max(nu, ||v - x_k||)`` and ``a_k`` the share of the examples. Pillutla et al.
    2022, arXiv:1912.13445, algorithm 2.

    Parameters
    ----------
    nu : float, default=1e-6
        What keeps weights bounded near a reply, positive.
    iterations : int, default=3
        How many steps; 0 is FedAvg.
    **options
        Those of :class:`KeptReplies`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> strategy = GeometricMedian(iterations=8)
    """

    def __init__(
        self, *, nu: float = 1e-6, iterations: int = 3, **options: Unpack[KeptRepliesOptions]
    ) -> None:
        if not (is_number(nu) and nu > 0 and is_whole_number(iterations) and iterations >= 0):
            raise ConfigError(
                f"nu is positive and iterations not negative, got {nu!r} and {iterations!r}"
            )
        super().__init__(GeometricMedianRule(nu, iterations), **options)
