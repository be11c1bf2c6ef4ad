"""Norm-bounding: the mean of updates none of which is too long."""

from __future__ import annotations

from typing import Unpack

from umbel.base import ConfigError, is_number
from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.updates import NormBoundRule


class NormBounding(KeptReplies):
    """FedAvg of updates that the server shortens to ``max_norm`` where they are longer.

    Sun et al. 2019, arXiv:1911.07963, section 4.

    Parameters
    ----------
    max_norm : float
        The greatest L2 norm of an update over all arrays, positive.
    **options
        Those of :class:`KeptReplies`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> strategy = NormBounding(max_norm=5.0)
    """

    def __init__(self, *, max_norm: float, **options: Unpack[KeptRepliesOptions]) -> None:
        if not is_number(max_norm) or max_norm <= 0:
            raise ConfigError(f"max_norm is positive, got {max_norm!r}")
        super().__init__(NormBoundRule(max_norm), **options)
