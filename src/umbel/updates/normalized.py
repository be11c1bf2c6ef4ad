"""The mean of updates that are divided by how much each client trained: the fold of FedNova."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from umbel.base import RejectedReply
from umbel.records import ConfigRecord, RecordDict
from umbel.updates.aggregator import Aggregator
from umbel.updates.mean import Mean, WeightedMean, WeightedSum


@dataclass
class StretchedMean(Mean):
    """A mean model, and how far the step towards it goes.

    Attributes
    ----------
    stretch : float
        The new model is ``x + stretch * (mean - x)``; exactly 1 where all clients trained alike.
    """

    stretch: float = 1.0


@dataclass
class NormalizedSum:
    """The accumulator of a :class:`NormalizedMean`."""

    total: WeightedSum = field(default_factory=WeightedSum)
    """Its arrays are in units of ``norm``: each reply was multiplied by ``norm / own norm``."""
    norm: float = 0.0
    weight: float = 0.0
    """The sum of ``weight * norm / own norm``."""
    norms: float = 0.0
    """The sum of ``weight * own norm``."""
    equal: bool = True


class NormalizedMean(Aggregator[NormalizedSum]):
    """The fold of FedNova: ``x - tau_eff * sum_k p_k d_k``, in terms of the clients' models.

    With ``a_k`` for the norm that client ``k`` reports and ``p_k = n_k / n``, that is
    ``x + stretch * (mean - x)``, where the mean is weighted by ``n_k / a_k`` and ``stretch`` is
    ``sum_k p_k a_k * sum_k p_k / a_k``. Sums are kept in units of their first reply's norm, so that
    equal norms give the plain weighted mean, bit for bit. Wang et al. 2020, arXiv:2007.07481,
    equation 8.

    Parameters
    ----------
    inner : WeightedMean
        How arrays and metrics are weighted but for that.
    norm_key : str
        The metric with a client's norm, positive.

    Examples
    --------
    >>> import numpy as np
    >>> from umbel.records import ArrayRecord, MetricRecord
    >>> fold = NormalizedMean(WeightedMean(), "local-norm")
    >>> total = fold.zero()
    >>> for x, norm in [(4.0, 4), (2.0, 1)]:
    ...     metrics = MetricRecord({"num-examples": 1, "local-norm": norm})
    ...     arrays = ArrayRecord({"w": np.array([x])})
    ...     total = fold.add(total, RecordDict({"arrays": arrays, "metrics": metrics}))
    >>> mean = fold.finish(total)
    >>> mean.stretch * mean.arrays["w"].view()  # from 0: 2.5 times the mean of 4/4 and 2/1
    array([3.75])
    """

    def __init__(self, inner: WeightedMean, norm_key: str) -> None:
        self.inner = inner
        self.norm_key = norm_key

    @property
    def looks_at_values(self) -> bool:
        """Whether the inner mean does."""
        return self.inner.looks_at_values

    @looks_at_values.setter
    def looks_at_values(self, value: bool) -> None:
        self.inner.looks_at_values = value

    def zero(self) -> NormalizedSum:
        return NormalizedSum()

    def add(self, acc: NormalizedSum, content: RecordDict) -> NormalizedSum:
        norm = self._norm(content)
        if acc.total.count and norm != acc.norm:
            return self.merge(acc, self.add(self.zero(), content))
        before = acc.total.weight
        acc.total.weight = 0.0  # so that it is this reply's weight, to the last bit
        try:
            self.inner.add(acc.total, content)
        except RejectedReply:
            acc.total.weight = before
            raise
        weight, acc.total.weight = acc.total.weight, before + acc.total.weight
        acc.norm = norm
        acc.weight += weight
        acc.norms += weight * norm
        return acc

    def is_sound(self, acc: NormalizedSum) -> bool:
        return self.inner.is_sound(acc.total)

    def merge(self, left: NormalizedSum, right: NormalizedSum) -> NormalizedSum:
        if not left.total.count or not right.total.count:
            return left if left.total.count else right
        factor = left.norm / right.norm
        left.equal = left.equal and right.equal and left.norm == right.norm
        if factor != 1.0 and right.total.arrays is not None:
            right.total.arrays = right.total.arrays.scaled(factor)
        left.total = self.inner.merge(left.total, right.total)
        left.weight += right.weight * factor
        left.norms += right.norms
        return left

    def finish(self, acc: NormalizedSum) -> StretchedMean:
        stretch, weight = 1.0, acc.total.weight
        if not acc.equal and weight > 0:
            stretch = (acc.norms / weight) * (acc.weight / weight) / acc.norm
            if acc.total.arrays is not None:
                acc.total.arrays = acc.total.arrays.scaled(weight / acc.weight)
        return StretchedMean(**vars(self.inner.finish(acc.total)), stretch=stretch)

    def pack(self, acc: NormalizedSum) -> RecordDict:
        numbers = {key: value for key, value in vars(acc).items() if key != "total"}
        return RecordDict({**self.inner.pack(acc.total), "normalized": ConfigRecord(numbers)})

    def unpack(self, content: RecordDict) -> NormalizedSum:
        numbers = dict(content.config_records["normalized"])
        inner = RecordDict({k: record for k, record in content.items() if k != "normalized"})
        return NormalizedSum(self.inner.unpack(inner), **numbers)  # type: ignore[arg-type]

    def _norm(self, content: RecordDict) -> float:
        records = list(content.metric_records.values())
        norm = records[0].get(self.norm_key) if len(records) == 1 else None
        if not isinstance(norm, int | float) or not (norm > 0 and math.isfinite(norm)):
            raise RejectedReply(
                f"its metric {self.norm_key!r} is no positive number, but {norm!r}",
                hint="reply with the metric local_norm(steps, ...) of umbel.clientapp",
                key=self.norm_key,
            )
        return float(norm)
