"""Aggregators that keep small records, and that run two folds at once."""

from __future__ import annotations

from typing import Any, TypeVar

from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates.aggregator import Aggregator

Left = TypeVar("Left")
Right = TypeVar("Right")


class Collect(Aggregator[list[RecordDict]]):
    """Keeps the metric and config records of every reply, in the cohort's order.

    It is what feeds a user's own metric aggregation, which wants to see all replies. Arrays are
    left out, so that memory stays small.

    Examples
    --------
    >>> collect = Collect()
    >>> acc = collect.add(collect.zero(), RecordDict({"metrics": MetricRecord({"loss": 0.5})}))
    >>> collect.finish(acc)[0]["metrics"]["loss"]
    0.5
    """

    def zero(self) -> list[RecordDict]:
        return []

    def add(self, acc: list[RecordDict], content: RecordDict) -> list[RecordDict]:
        kept = {name: r.copy() for name, r in content.items() if not isinstance(r, ArrayRecord)}
        acc.append(RecordDict(kept))
        return acc

    def merge(self, left: list[RecordDict], right: list[RecordDict]) -> list[RecordDict]:
        left.extend(right)
        return left

    def finish(self, acc: list[RecordDict]) -> list[RecordDict]:
        return acc

    def pack(self, acc: list[RecordDict]) -> RecordDict:
        records = RecordDict({"": MetricRecord({"count": len(acc)})})
        for index, reply in enumerate(acc):
            records.update((f"{index}:{name}", record) for name, record in reply.items())
        return records

    def unpack(self, content: RecordDict) -> list[RecordDict]:
        count = content.metric_records[""]["count"]
        replies = [RecordDict() for _ in range(int(count))]  # type: ignore[arg-type]
        for key, record in content.items():
            index, _, name = key.partition(":")
            if index:
                replies[int(index)][name] = record
        return replies


class Both(Aggregator[tuple[Any, Any]]):
    """Two folds over the same replies; the outcome is the pair of theirs.

    Either may reject a reply, and then neither has added it. The sum of a reply's part in
    ``second`` is made on its own and merged, so put the heavier fold first.

    Examples
    --------
    >>> from umbel.updates import WeightedMean
    >>> both = Both(WeightedMean(with_arrays=False), Collect())
    >>> reply = RecordDict({"metrics": MetricRecord({"num-examples": 3, "loss": 0.5})})
    >>> mean, replies = both.finish(both.add(both.zero(), reply))
    >>> mean.metrics["loss"], len(replies)
    (0.5, 1)
    """

    def __init__(self, first: Aggregator[Left], second: Aggregator[Right]) -> None:
        self.first: Aggregator[Any] = first
        self.second: Aggregator[Any] = second

    @property
    def looks_at_values(self) -> bool:
        """Whether either does."""
        return self.first.looks_at_values or self.second.looks_at_values

    @looks_at_values.setter
    def looks_at_values(self, value: bool) -> None:
        self.first.looks_at_values = self.second.looks_at_values = value

    def zero(self) -> tuple[Any, Any]:
        return self.first.zero(), self.second.zero()

    def answering(self, sent: RecordDict) -> None:
        self.first.answering(sent)
        self.second.answering(sent)

    def add(self, acc: tuple[Any, Any], content: RecordDict) -> tuple[Any, Any]:
        other = self.second.add(self.second.zero(), content)
        return self.first.add(acc[0], content), self.second.merge(acc[1], other)

    def is_sound(self, acc: tuple[Any, Any]) -> bool:
        return self.first.is_sound(acc[0]) and self.second.is_sound(acc[1])

    def merge(self, left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[Any, Any]:
        return self.first.merge(left[0], right[0]), self.second.merge(left[1], right[1])

    def finish(self, acc: tuple[Any, Any]) -> tuple[Any, Any]:
        return self.first.finish(acc[0]), self.second.finish(acc[1])

    def pack(self, acc: tuple[Any, Any]) -> RecordDict:
        packed = (self.first.pack(acc[0]), self.second.pack(acc[1]))
        return RecordDict(
            {f"{i}:{name}": record for i in (0, 1) for name, record in packed[i].items()}
        )

    def unpack(self, content: RecordDict) -> tuple[Any, Any]:
        parts = (RecordDict(), RecordDict())
        for key, record in content.items():
            index, _, name = key.partition(":")
            parts[int(index)][name] = record
        return self.first.unpack(parts[0]), self.second.unpack(parts[1])
