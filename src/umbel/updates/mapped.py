"""Aggregators that see something else than the reply as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from umbel.base import RejectedReply
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates.aggregator import Aggregator
from umbel.updates.arrays import Arrays
from umbel.updates.mean import WeightedMean

Acc = TypeVar("Acc")


class Mapped(Aggregator[Acc]):
    """A fold over what a function makes of each reply.

    Parameters
    ----------
    inner : Aggregator
        The fold.
    function : callable
        ``function(content) -> content``. It must not change what it is given, may raise
        ``RejectedReply``, and travels to the workers.

    Examples
    --------
    >>> from umbel.updates import Collect
    >>> first = Mapped(Collect(), lambda content: RecordDict({"a": content["a"]}))
    >>> reply = RecordDict({"a": MetricRecord({"x": 1}), "b": MetricRecord({"x": 2})})
    >>> list(first.finish(first.add(first.zero(), reply))[0])
    ['a']
    """

    def __init__(
        self, inner: Aggregator[Acc], function: Callable[[RecordDict], RecordDict]
    ) -> None:
        self.inner = inner
        self.function = function

    @property
    def looks_at_values(self) -> bool:
        """Whether the inner fold does."""
        return self.inner.looks_at_values

    @looks_at_values.setter
    def looks_at_values(self, value: bool) -> None:
        self.inner.looks_at_values = value

    def zero(self) -> Acc:
        return self.inner.zero()

    def answering(self, sent: RecordDict) -> None:
        self.inner.answering(sent)

    def add(self, acc: Acc, content: RecordDict) -> Acc:
        return self.inner.add(acc, self.function(content))

    def is_sound(self, acc: Acc) -> bool:
        return self.inner.is_sound(acc)

    def merge(self, left: Acc, right: Acc) -> Acc:
        return self.inner.merge(left, right)

    def finish(self, acc: Acc) -> Any:
        return self.inner.finish(acc)

    def pack(self, acc: Acc) -> RecordDict:
        return self.inner.pack(acc)

    def unpack(self, content: RecordDict) -> Acc:
        return self.inner.unpack(content)


class UniformMean(WeightedMean):
    """The plain mean of one ``ArrayRecord`` of the replies: each counts the same.

    What else a reply carries is not looked at. The outcome is a ``Mean`` without metrics.

    Parameters
    ----------
    record : str
        The name of the record.
    shapes, require_finite
        See :class:`WeightedMean`.

    Examples
    --------
    >>> import numpy as np
    >>> mean, total = UniformMean("control"), None
    >>> for x in (1.0, 2.0):
    ...     reply = RecordDict({"control": ArrayRecord({"w": np.array([x])})})
    ...     total = mean.add(mean.zero() if total is None else total, reply)
    >>> mean.finish(total).arrays["w"].view().tolist()
    [1.5]
    """

    def __init__(
        self,
        record: str,
        *,
        shapes: dict[str, tuple[int, ...]] | None = None,
        require_finite: bool = True,
    ) -> None:
        super().__init__(shapes=shapes, require_finite=require_finite)
        self.record = record

    def _read(self, content: RecordDict) -> tuple[Arrays, MetricRecord]:
        record = content.get(self.record)
        if not isinstance(record, ArrayRecord):
            raise RejectedReply(
                f"it carries no ArrayRecord {self.record!r} ({sorted(content) or 'nothing'})",
                hint="reply with what the client's part of this strategy returns from finish()",
            )
        return record.lent(), MetricRecord()

    def _weight(self, metrics: MetricRecord) -> float:
        return 1.0
