"""FedTrimmedAvg: the mean of each coordinate without its extremes."""

from __future__ import annotations

from typing import Unpack

from umbel.base import ConfigError, is_number
from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.updates import TrimmedMeanRule


class FedTrimmedAvg(KeptReplies):
    """The mean of each coordinate without its ``int(beta n)`` least and greatest values.

    Yin et al. 2018, arXiv:1803.01498, algorithm 1, option II; without weights. ``beta=0`` is the
    plain mean.

    Parameters
    ----------
    beta : float, default=0.2
        The part that is left out on either side, in ``[0, 0.5)``.
    **options
        Those of :class:`KeptReplies`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> strategy = FedTrimmedAvg(beta=0.1)
    """

    def __init__(self, *, beta: float = 0.2, **options: Unpack[KeptRepliesOptions]) -> None:
        if not is_number(beta) or not 0 <= beta < 0.5:
            raise ConfigError(f"beta lies in [0, 0.5), got {beta!r}")
        super().__init__(TrimmedMeanRule(beta), **options)
