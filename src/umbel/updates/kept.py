"""The aggregator of what does not fold: replies go to disk, and what travels are file names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from umbel.base import ConfigError, RejectedReply
from umbel.records import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from umbel.updates.aggregator import Aggregator
from umbel.updates.arrays import Arrays, sum_dtype
from umbel.updates.mean import Mean, WeightedMean, WeightedSum
from umbel.updates.robustrules import Rule
from umbel.updates.spill import Stack, write_reply
from umbel.updates.spillfolder import SpillFolder

MEMORY_LIMIT_BYTES = 256 * 1024 * 1024


@dataclass
class Kept:
    """The accumulator of :class:`KeepReplies`: sums of metrics, and where the replies lie."""

    metrics: WeightedSum
    files: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)


class KeepReplies(Aggregator[Kept]):
    """Keeps every reply on disk and applies a rule to all of them at the end.

    Replies are written where they arise and read where they are combined: on the same machine, or
    in a ``spill_dir`` that all machines share. Metrics are folded, as by :class:`WeightedMean`.
    Memory stays within ``memory_limit_bytes``, besides the model itself, however many replies there
    are.

    Parameters
    ----------
    rule : Rule
        What makes one model of the replies.
    weighted_by : str, default="num-examples"
        The metric that is the reply's weight.
    origin : mapping of str to ndarray
        The model that was sent; a reply with other keys or shapes is rejected. If it is empty,
        replies need only agree with each other.
    require_finite : bool, default=True
        Reject a reply that holds NaN or infinity.
    memory_limit_bytes : int, default=256 MiB
        How much of the replies is in memory at once.
    spill_dir : path, optional
        Where the folder with the replies is made; by default where the system keeps such files.
        That may be memory (``tmpfs``): then name a folder on a disk. What a process that was
        killed left there is removed by the next one on this machine.

    Raises
    ------
    ConfigError
        The memory limit is below 1 MiB.

    Examples
    --------
    >>> from umbel.updates import MedianRule
    >>> median = KeepReplies(MedianRule())
    >>> acc = median.zero()
    >>> for x in [1.0, 2.0, 1e9]:
    ...     arrays = ArrayRecord([np.array([x])])
    ...     metrics = MetricRecord({"num-examples": 1})
    ...     acc = median.add(acc, RecordDict({"arrays": arrays, "metrics": metrics}))
    >>> median.finish(acc).arrays["0"].view().tolist()
    [2.0]
    """

    def __init__(
        self,
        rule: Rule,
        weighted_by: str = "num-examples",
        *,
        origin: Arrays | None = None,
        require_finite: bool = True,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        spill_dir: Path | str | None = None,
    ) -> None:
        check_memory_limit(memory_limit_bytes)
        self._rule = rule
        self._origin: Arrays = origin or {}
        shapes = {key: value.shape for key, value in self._origin.items()}
        self._checks = WeightedMean(weighted_by, shapes=shapes, require_finite=require_finite)
        self._metrics = WeightedMean(weighted_by, with_arrays=False)
        self._memory_limit_bytes = memory_limit_bytes
        self._owned: SpillFolder | None = SpillFolder(spill_dir)
        self._folder = self._owned.path

    def __getstate__(self) -> Mapping[str, Any]:
        # The folder is the first one's, and so is the model: what travels needs only names.
        return {**self.__dict__, "_owned": None, "_origin": {}}

    def zero(self) -> Kept:
        return Kept(self._metrics.zero())

    def add(self, acc: Kept, content: RecordDict) -> Kept:
        arrays, weight = self._checks.checked(content)
        for key, value in arrays.items():
            try:
                sum_dtype(value.dtype)
            except RejectedReply as error:
                error.context["key"] = key
                raise
        measured = self._measured(content)
        record = next(r for r in content.values() if isinstance(r, ArrayRecord))
        acc.files.append(write_reply(self._folder, record))
        acc.metrics = self._metrics.add(acc.metrics, content)
        acc.weights.append(weight)
        acc.measured.append(measured)
        return acc

    def merge(self, left: Kept, right: Kept) -> Kept:
        return Kept(
            self._metrics.merge(left.metrics, right.metrics),
            left.files + right.files,
            left.weights + right.weights,
            left.measured + right.measured,
        )

    def finish(self, acc: Kept) -> Mean:
        files = [self._folder / name for name in acc.files]
        try:
            stack = Stack(files, self._origin, acc.weights, acc.measured, self._memory_limit_bytes)
            with np.errstate(over="ignore", invalid="ignore"):
                arrays = stack.named(self._rule(stack))
        finally:
            for file in files:
                file.unlink(missing_ok=True)
        for value in arrays.values():
            value.flags.writeable = False
        mean = self._metrics.finish(acc.metrics)
        ordered = {key: arrays[key] for key in self._origin or arrays}
        return Mean(ArrayRecord(ordered), mean.metrics, mean.weight, mean.count)

    def pack(self, acc: Kept) -> RecordDict:
        records = self._metrics.pack(acc.metrics)
        records["files"] = ConfigRecord({"names": acc.files})
        records["numbers"] = MetricRecord({"weights": acc.weights, "measured": acc.measured})
        return records

    def unpack(self, content: RecordDict) -> Kept:
        numbers: Any = content["numbers"]
        files: Any = content["files"]
        return Kept(
            self._metrics.unpack(content),
            list(files["names"]),
            list(numbers["weights"]),
            list(numbers["measured"]),
        )

    def _measured(self, content: RecordDict) -> float:
        """Return the metric that the rule asks for."""
        name = self._rule.measures
        if not name:
            return 0.0
        metrics = next(iter(content.metric_records.values()))
        value = metrics.get(name)
        if not isinstance(value, int | float) or not 0 <= value < np.inf:
            raise RejectedReply(
                f"its metric {name!r} must be a number from 0, and it is {value!r}",
                hint=f"reply with MetricRecord({{{name!r}: loss, ...}})",
                key=name,
            )
        return float(value)


def check_memory_limit(memory_limit_bytes: int) -> None:
    """Raise ``ConfigError`` if this is too little to work in."""
    if memory_limit_bytes < 1 << 20:
        raise ConfigError(
            f"memory_limit_bytes={memory_limit_bytes} is too little to work in",
            hint="give at least one MiB: 1 << 20",
        )
