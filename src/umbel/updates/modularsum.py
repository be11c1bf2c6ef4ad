"""The sum of masked vectors: whole numbers that wrap around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from umbel.base import AggregationError, RejectedReply
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates.aggregator import Aggregator
from umbel.updates.arrays import NDArray


@dataclass
class ModularTotal:
    """The accumulator and outcome of a :class:`ModularSum`.

    Attributes
    ----------
    vector : ndarray or None
        The sum; ``None`` of no replies.
    count : int
        How many replies are in it.
    """

    vector: NDArray | None = None
    count: int = 0


class ModularSum(Aggregator[ModularTotal]):
    """The sum of one vector a reply, modulo ``2**bits``.

    Masks that cancel in the sum cancel to the last bit, whoever adds what.

    Parameters
    ----------
    length : int
        How many numbers a vector has.
    bits : {16, 32, 64}
        The size of a number; vectors are of the unsigned type of that size.
    record, key : str
        The names of the ``ArrayRecord`` in a reply and of the vector in it.

    Examples
    --------
    >>> total = ModularSum(2, 16)
    >>> acc = total.zero()
    >>> for vector in ([65535, 1], [3, 1]):
    ...     array = np.array(vector, np.uint16)
    ...     acc = total.add(acc, RecordDict({"masked": ArrayRecord({"vector": array})}))
    >>> total.finish(acc).vector.tolist()
    [2, 2]
    """

    def __init__(
        self, length: int, bits: int = 32, *, record: str = "masked", key: str = "vector"
    ) -> None:
        self.length = length
        self.bits = bits
        self.record = record
        self.key = key

    def zero(self) -> ModularTotal:
        return ModularTotal()

    def add(self, acc: ModularTotal, content: RecordDict) -> ModularTotal:
        vector = self._read(content)
        if acc.vector is None:
            acc.vector = np.array(vector, f"uint{self.bits}", order="C")
        else:
            acc.vector += vector
        acc.count += 1
        return acc

    def merge(self, left: ModularTotal, right: ModularTotal) -> ModularTotal:
        if left.vector is None:
            return right
        if right.vector is not None:
            # In place where that can be: what came through shared memory or a file is read-only.
            spare = (v for v in (left.vector, right.vector) if v.flags.writeable)
            left.vector = np.add(left.vector, right.vector, out=next(spare, None))
            left.count += right.count
        return left

    def finish(self, acc: ModularTotal) -> ModularTotal:
        if acc.vector is None:
            raise AggregationError("there is no masked vector to sum up")
        return acc

    def pack(self, acc: ModularTotal) -> RecordDict:
        records = RecordDict({"totals": MetricRecord({"count": acc.count})})
        if acc.vector is not None:
            records["sums"] = ArrayRecord({self.key: acc.vector})
        return records

    def unpack(self, content: RecordDict) -> ModularTotal:
        sums = content.array_records.get("sums")
        vector = None if sums is None else sums.views()[self.key]
        count = content.metric_records["totals"]["count"]
        return ModularTotal(vector, int(count))  # type: ignore[arg-type]

    def _read(self, content: RecordDict) -> NDArray:
        record = content.get(self.record)
        if not isinstance(record, ArrayRecord) or list(record) != [self.key]:
            raise RejectedReply(
                f"it carries no masked vector ({sorted(content) or 'nothing'})",
                hint="give the client app mods=[secagg_mod()]",
            )
        vector = record.lent()[self.key]
        if vector.dtype.newbyteorder("=") != f"uint{self.bits}" or vector.shape != (self.length,):
            raise RejectedReply(
                f"its masked vector is {vector.dtype}{list(vector.shape)}, not "
                f"uint{self.bits}[{self.length}]",
                hint="mask the update of the model that the message carried",
                key=self.key,
            )
        return vector
