"""FedMedian: the median of each coordinate."""

from __future__ import annotations

from typing import Unpack

from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.updates import MedianRule


class FedMedian(KeptReplies):
    """The median of each coordinate, without weights.

    Yin et al. 2018, arXiv:1803.01498, algorithm 1, option I.

    Parameters
    ----------
    **options
        Those of :class:`KeptReplies`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> strategy = FedMedian(fraction_train=0.5)
    """

    def __init__(self, **options: Unpack[KeptRepliesOptions]) -> None:
        super().__init__(MedianRule(), **options)
