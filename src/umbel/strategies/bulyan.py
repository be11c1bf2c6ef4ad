"""Bulyan: Krum, and then the values closest to the median."""

from __future__ import annotations

from typing import Unpack

from umbel.base import ConfigError, is_whole_number
from umbel.strategies.keptreplies import KeptReplies, KeptRepliesOptions
from umbel.updates import BulyanRule


class Bulyan(KeptReplies):
    """Krum selects ``n - 2 f`` replies one by one; then the values closest to their median count.

    Each selected reply leaves the set before the next one is selected; then, for each coordinate,
    the mean of the ``n - 4 f`` values closest to the median, without weights. El Mhamdi et al.
    2018, arXiv:1802.07927, section 4. With ``f > 0``, a round of fewer than ``4 f + 3`` replies
    ends the run.

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
    >>> strategy = Bulyan(num_malicious_nodes=2)
    """

    def __init__(
        self, *, num_malicious_nodes: int = 0, **options: Unpack[KeptRepliesOptions]
    ) -> None:
        if not is_whole_number(num_malicious_nodes) or num_malicious_nodes < 0:
            raise ConfigError(
                f"num_malicious_nodes is a whole number, not negative, got {num_malicious_nodes!r}"
            )
        super().__init__(BulyanRule(num_malicious_nodes), **options)
