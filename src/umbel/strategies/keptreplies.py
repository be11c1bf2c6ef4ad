"""The base of strategies that must see all replies of a round at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import (
    MEMORY_LIMIT_BYTES,
    Aggregator,
    Both,
    Collect,
    KeepReplies,
    Rule,
    Transform,
    check_memory_limit,
)


class KeptRepliesOptions(FedAvgOptions, total=False):
    """The keyword arguments of :class:`FedAvg`, and those of replies that are kept on disk."""

    server_optimizer: Transform | None
    memory_limit_bytes: int
    spill_dir: Path | str | None


class KeptReplies(FedAvg):
    """FedAvg with another rule instead of the mean, over replies that are kept on disk.

    Parameters
    ----------
    rule : Rule
        What makes one model of the replies.
    memory_limit_bytes : int, default=256 MiB
        How much of the replies is in memory at once.
    spill_dir : path, optional
        Where replies are written; workers on several machines must share it.
    **options
        Those of :class:`FedAvg`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> from umbel.updates import MedianRule
    >>> strategy = KeptReplies(MedianRule(), memory_limit_bytes=1 << 30)
    """

    def __init__(
        self,
        rule: Rule,
        *,
        server_optimizer: Transform | None = None,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        spill_dir: Path | str | None = None,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        check_memory_limit(memory_limit_bytes)
        super().__init__(**options, server_optimizer=server_optimizer)
        self.rule = rule
        self.memory_limit_bytes = memory_limit_bytes
        self.spill_dir = spill_dir

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        kept = KeepReplies(
            self.rule,
            self.weighted_by_key,
            origin=self.current_arrays.views(),
            require_finite=self.require_finite,
            memory_limit_bytes=self.memory_limit_bytes,
            spill_dir=self.spill_dir,
        )
        return kept if self.train_metrics_aggr_fn is None else Both(kept, Collect())
