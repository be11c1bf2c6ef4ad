"""Krum and Multi-Krum: the replies that lie closest to others."""

from __future__ import annotations

from typing import Unpack

from umbel.base import ConfigError, is_whole_number
from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.updates import KrumRule


class MultiKrum(KeptReplies):
    """The weighted mean of the replies that lie closest to others.

    A reply's score is the sum of its ``n - f - 2`` least squared distances from others; those with
    the least scores are kept. Blanchard et al. 2017, arXiv:1703.02757, section 4. With ``f > 0``, a
    round of fewer than ``2 f + 3`` replies ends the run.

    Parameters
    ----------
    num_malicious_nodes : int, default=0
        ``f``: how many replies of a round may be anything.
    num_nodes_to_select : int, default=1
        How many replies are kept; all of them is FedAvg.
    **options
        Those of :class:`KeptReplies`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> strategy = MultiKrum(num_malicious_nodes=2, num_nodes_to_select=5)
    """

    def __init__(
        self,
        *,
        num_malicious_nodes: int = 0,
        num_nodes_to_select: int = 1,
        **options: Unpack[KeptRepliesOptions],
    ) -> None:
        if not is_whole_number(num_malicious_nodes) or num_malicious_nodes < 0:
            raise ConfigError(
                f"num_malicious_nodes is a whole number, not negative, got {num_malicious_nodes!r}"
            )
        if not is_whole_number(num_nodes_to_select) or num_nodes_to_select < 1:
            raise ConfigError(
                f"num_nodes_to_select is a whole number, at least 1, got {num_nodes_to_select!r}"
            )
        super().__init__(KrumRule(num_malicious_nodes, num_nodes_to_select), **options)


class Krum(MultiKrum):
    """The one reply that lies closest to others: :class:`MultiKrum` that selects one.

    Parameters
    ----------
    num_malicious_nodes : int, default=0
        ``f``: how many replies of a round may be anything.
    **options
        Those of :class:`KeptReplies`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> strategy = Krum(num_malicious_nodes=2)
    """

    def __init__(
        self, *, num_malicious_nodes: int = 0, **options: Unpack[KeptRepliesOptions]
    ) -> None:
        super().__init__(num_malicious_nodes=num_malicious_nodes, **options)
