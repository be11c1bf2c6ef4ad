"""The aggregator of clients that reply with trees: it keeps them, in the cohort's order."""

from __future__ import annotations

import numpy as np

from umbel.base import RejectedReply
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates.aggregator import Aggregator
from umbel.updates.arrays import NDArray
from umbel.updates.boosters import BoosterKind, read_booster


class CollectBoosters(Aggregator[list[NDArray]]):
    """Keeps the XGBoost model of every reply, in the cohort's order, and none that is not sound.

    A reply carries one array of uint8: the bytes of ``Booster.save_raw("json")``. They are checked
    by the worker that folds them, without XGBoost. The outcome is a list of such arrays.

    Parameters
    ----------
    kind : BoosterKind, optional
        What every model must be like. Without it replies are not compared here.

    Raises
    ------
    RejectedReply
        From ``add``: the reply holds no such model, or one of another kind.
    """

    def __init__(self, kind: BoosterKind | None = None) -> None:
        self.kind = kind

    def zero(self) -> list[NDArray]:
        return []

    def add(self, acc: list[NDArray], content: RecordDict) -> list[NDArray]:
        arrays = [a for record in content.array_records.values() for a in record.lent().values()]
        if len(arrays) != 1 or arrays[0].dtype != np.uint8 or arrays[0].ndim != 1:
            found = [f"{a.dtype}{list(a.shape)}" for a in arrays[:5]]
            raise RejectedReply(
                f"it carries arrays {found}, and a model of XGBoost is one array of bytes",
                hint='reply with ArrayRecord([np.frombuffer(raw, np.uint8)]) of save_raw("json")',
            )
        booster = read_booster(arrays[0].tobytes())
        if self.kind is not None and (difference := self.kind.difference(booster.kind)):
            raise RejectedReply(
                f"its model differs from the global one: it has {difference}",
                hint="give all clients the same columns and the same parameters",
            )
        acc.append(arrays[0].copy())
        return acc

    def merge(self, left: list[NDArray], right: list[NDArray]) -> list[NDArray]:
        left.extend(right)
        return left

    def finish(self, acc: list[NDArray]) -> list[NDArray]:
        return acc

    def pack(self, acc: list[NDArray]) -> RecordDict:
        count = MetricRecord({"count": len(acc)})
        return RecordDict({"boosters": ArrayRecord(acc), "totals": count})

    def unpack(self, content: RecordDict) -> list[NDArray]:
        views = content.array_records["boosters"].views()
        count = int(content.metric_records["totals"]["count"])  # type: ignore[arg-type]
        return [views[str(place)] for place in range(count)]
