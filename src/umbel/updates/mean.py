"""The weighted mean: the aggregator of FedAvg and of nearly everything else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from umbel.base import AggregationError, RejectedReply, for_each
from umbel.records import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from umbel.updates.aggregator import Aggregator
from umbel.updates.arrays import Arrays, NDArray, cast_back
from umbel.updates.arraysum import ArraySum, all_finite

WEIGHT_MIN, WEIGHT_MAX = 1e-20, 1e20
"""Weights beyond these, zero aside, would leave the range of float32 when they multiply."""

MetricSum = float | list[float]


@dataclass
class Mean:
    """The outcome of a :class:`WeightedMean`.

    Attributes
    ----------
    arrays : ArrayRecord or None
        The mean of the replies' arrays, in the dtypes that the replies had; read-only, and in the
        order of ``shapes`` if those were given.
    metrics : MetricRecord
        The mean of each metric over the replies that carried it, and NaN where there is none.
    weight : float
        The sum of the weights.
    count : int
        The number of replies.
    """

    arrays: ArrayRecord | None
    metrics: MetricRecord
    weight: float
    count: int


@dataclass
class WeightedSum:
    """The accumulator of a :class:`WeightedMean`: sums, and what they are sums of."""

    arrays: ArraySum | None = None
    metrics: dict[str, MetricSum] = field(default_factory=dict)
    metric_weights: dict[str, float] = field(default_factory=dict)
    weight: float = 0.0
    count: int = 0
    conflict: str = ""
    """How the arrays of some replies differ from those of others, if they do."""


class WeightedMean(Aggregator[WeightedSum]):
    """The mean of arrays and metrics, weighted by one of the metrics.

    Computes ``sum_k w_k x_k / sum_k w_k`` (McMahan et al. 2017, arXiv:1602.05629, algorithm 1).
    Arrays are summed in float32 if they are narrower, in float64 if they are whole numbers, and
    else in their own dtype; the mean has the dtype that came in (the common one, if replies
    differ), with whole numbers rounded to the nearest.

    A metric is averaged over the replies that carry it. Its mean is NaN if all of those have the
    weight zero, or if it is a list here and a number there, or lists of different lengths.

    Parameters
    ----------
    weighted_by : str, default="num-examples"
        The metric that is the reply's weight: zero, or a number in [1e-20, 1e20].
    with_arrays : bool, default=True
        Whether replies carry one ``ArrayRecord`` (training) or only metrics (evaluation).
    shapes : mapping of str to tuple of int, optional
        The keys and shapes of the model that was sent. A reply that has others is rejected, and
        the rest go on; without them, there is no mean of replies that differ among themselves.
    require_finite : bool, default=True
        Reject a reply that holds NaN or infinity, which would spoil the mean for all.

    Raises
    ------
    RejectedReply
        From ``add``: the reply lacks what is needed, or holds what it must not.
    AggregationError
        From ``finish``: replies have different arrays, all weights are zero, or the values are so
        large that their sum overflows.

    Examples
    --------
    >>> mean = WeightedMean()
    >>> replies = [
    ...     RecordDict({"arrays": ArrayRecord([np.array([x], dtype=np.float32)]),
    ...                 "metrics": MetricRecord({"num-examples": n, "loss": x})})
    ...     for x, n in [(1.0, 3), (5.0, 1)]
    ... ]
    >>> total = mean.add(mean.add(mean.zero(), replies[0]), replies[1])
    >>> out = mean.finish(total)
    >>> out.arrays["0"].view().tolist(), dict(out.metrics), out.count
    ([2.0], {'loss': 2.0}, 2)
    """

    def __init__(
        self,
        weighted_by: str = "num-examples",
        *,
        with_arrays: bool = True,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        require_finite: bool = True,
    ) -> None:
        self.weighted_by = weighted_by
        self.with_arrays = with_arrays
        self.shapes = dict(shapes or {})
        self.require_finite = require_finite

    def zero(self) -> WeightedSum:
        return WeightedSum()

    def add(self, acc: WeightedSum, content: RecordDict) -> WeightedSum:
        arrays, metrics = self._read(content)
        weight = self._weight(metrics)
        if self.with_arrays:
            # What overflows shows in `finish`; a warning here would name no client.
            with np.errstate(over="ignore", invalid="ignore"):
                shapes = self._checked_shapes(arrays, look=self.looks_at_values)
                if acc.arrays is None:
                    acc.arrays = ArraySum(arrays, weight)
                elif _agree(acc, shapes):
                    acc.arrays.add(arrays, weight)
        for key, metric in metrics.items():
            if key != self.weighted_by:
                scaled = (
                    [weight * m for m in metric] if isinstance(metric, list) else weight * metric
                )
                _add_metric(acc, key, scaled, weight)
        acc.weight += weight
        acc.count += 1
        return acc

    def is_sound(self, acc: WeightedSum) -> bool:
        if not self.require_finite or acc.arrays is None:
            return True
        with np.errstate(over="ignore", invalid="ignore"):
            return all_finite(list(acc.arrays.named().values()))

    def merge(self, left: WeightedSum, right: WeightedSum) -> WeightedSum:
        left.conflict = left.conflict or right.conflict
        if left.arrays is None:
            left.arrays = right.arrays
        elif right.arrays is not None and _agree(left, right.arrays.shapes):
            left.arrays.merge(right.arrays)
        for key, metric in right.metrics.items():
            _add_metric(left, key, metric, right.metric_weights[key])
        left.weight += right.weight
        left.count += right.count
        return left

    def finish(self, acc: WeightedSum) -> Mean:
        if acc.conflict:
            raise AggregationError(
                f"replies hold different arrays: {acc.conflict}",
                hint="every client must reply with the same keys and shapes",
            )
        if acc.count and not acc.weight > 0:
            raise AggregationError(
                f"the weights of all {acc.count} replies are zero, so there is no mean",
                hint=f"reply with a positive metric {self.weighted_by!r}",
            )
        metrics: dict[str, MetricSum] = {}
        for key, value in acc.metrics.items():
            # A metric that only clients of weight zero reported has no mean.
            weight = acc.metric_weights[key] or math.nan
            metrics[key] = (
                [v / weight for v in value] if isinstance(value, list) else value / weight
            )
        arrays = ArrayRecord(self._means(acc)) if self.with_arrays else None
        return Mean(arrays, MetricRecord(metrics), acc.weight, acc.count)

    def pack(self, acc: WeightedSum) -> RecordDict:
        records = RecordDict(
            {
                "metrics": MetricRecord(acc.metrics),
                "metric-weights": MetricRecord(acc.metric_weights),
                "totals": MetricRecord({"weight": acc.weight, "count": acc.count}),
            }
        )
        if acc.arrays is not None:
            records["sums"] = ArrayRecord(acc.arrays.named())
            # Empty arrays carry the dtypes: every dtype that can travel has a name there.
            records["dtypes"] = ArrayRecord(
                {key: np.empty(0, dtype) for key, dtype in acc.arrays.dtypes.items()}
            )
        if acc.conflict:
            records["conflict"] = ConfigRecord({"text": acc.conflict})
        return records

    def unpack(self, content: RecordDict) -> WeightedSum:
        arrays, metrics = content.array_records, content.metric_records
        sums = None
        if "sums" in arrays:
            dtypes = {key: value.dtype for key, value in arrays["dtypes"].views().items()}
            sums = ArraySum.of_sums(arrays["sums"].views(), dtypes)
        return WeightedSum(
            arrays=sums,
            metrics=dict(metrics["metrics"]),  # type: ignore[arg-type]
            metric_weights=dict(metrics["metric-weights"]),  # type: ignore[arg-type]
            weight=float(metrics["totals"]["weight"]),  # type: ignore[arg-type]
            count=int(metrics["totals"]["count"]),  # type: ignore[arg-type]
            conflict=str(content["conflict"]["text"]) if "conflict" in content else "",
        )

    def _means(self, acc: WeightedSum) -> dict[str, NDArray]:
        """Divide the sums by the weight, in place where that can be."""
        if acc.arrays is None:
            return {}
        sums, dtypes = acc.arrays.named(), acc.arrays.dtypes
        # Filled first, so that the order of keys does not depend on which thread is done first.
        means = dict.fromkeys(self.shapes or sums, np.empty(0))

        def divide(key: str) -> None:
            total = sums[key]
            # An array of its own, and read-only: then it can be sent twice and copied once.
            out = total if total.flags.writeable and total.flags.owndata else None
            with np.errstate(over="ignore", invalid="ignore"):
                mean = np.asarray(np.divide(total, acc.weight, out=out, dtype=total.dtype))
                means[key] = cast_back(mean, dtypes[key].newbyteorder("="))
                sound = not self.require_finite or all_finite([mean])
            means[key].flags.writeable = False
            if not sound:
                raise AggregationError(
                    "the replies' values are so large that their sum overflows",
                    hint=f"make the weights {self.weighted_by!r} smaller, or train in float64",
                    key=key,
                )

        for_each(divide, list(means), sum(total.nbytes for total in sums.values()))
        return means

    def _read(self, content: RecordDict) -> tuple[Arrays, MetricRecord]:
        """Return the arrays and the metrics of a reply that has the right records."""
        arrays: ArrayRecord | None = None
        metrics: MetricRecord | None = None
        counts = [0, 0]
        for record in content.values():
            if isinstance(record, ArrayRecord):
                arrays, counts[0] = record, counts[0] + 1
            elif isinstance(record, MetricRecord):
                metrics, counts[1] = record, counts[1] + 1
        if metrics is None or counts[1] != 1 or (self.with_arrays and counts[0] != 1):
            raise RejectedReply(
                f"it carries {counts[0]} ArrayRecords and {counts[1]} MetricRecords "
                f"({sorted(content) or 'nothing'}), not "
                + ("one of each" if self.with_arrays else "one MetricRecord"),
                hint="put one under 'arrays' (training) and one under 'metrics'",
            )
        return (arrays.lent() if arrays is not None and self.with_arrays else {}), metrics

    def checked(self, content: RecordDict) -> tuple[Arrays, float]:
        """Return a reply's arrays and its weight, if both can be used.

        Raises
        ------
        RejectedReply
            They cannot.
        """
        arrays, metrics = self._read(content)
        weight = self._weight(metrics)
        with np.errstate(over="ignore", invalid="ignore"):
            self._checked_shapes(arrays, look=True)
        return arrays, weight

    def _checked_shapes(self, arrays: Arrays, *, look: bool) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of a reply's arrays, after rejecting what could not be added.

        What other replies hold plays no part in it: who has seen which depends on the workers.
        """
        shapes = {key: value.shape for key, value in arrays.items()}
        if self.shapes and shapes != self.shapes:
            raise RejectedReply(
                f"its arrays are not those of the model: {_difference(self.shapes, shapes)}",
                hint="train the model that the message carried, and reply with the same keys",
            )
        if look and self.require_finite and not all_finite(list(arrays.values())):
            key = next(key for key, value in arrays.items() if not all_finite([value]))
            raise RejectedReply(
                f"its array {key!r} holds NaN or infinity",
                hint="training diverged there; lower the learning rate or clip gradients",
                key=key,
            )
        return shapes

    def _weight(self, metrics: MetricRecord) -> float:
        weight = metrics.get(self.weighted_by)
        if not isinstance(weight, int | float) or not (
            WEIGHT_MIN <= weight <= WEIGHT_MAX or weight == 0
        ):
            got = "it is missing" if weight is None else f"it is {weight!r}"
            raise RejectedReply(
                f"its weight must be zero or lie in [{WEIGHT_MIN:g}, {WEIGHT_MAX:g}], and {got}",
                hint=f"reply with MetricRecord({{{self.weighted_by!r}: number of examples, ...}})",
                key=self.weighted_by,
            )
        return float(weight)


def _agree(acc: WeightedSum, shapes: Mapping[str, Any]) -> bool:
    """Whether arrays can be added to a sum; if not, the sum remembers that."""
    if acc.arrays is not None and acc.arrays.shapes != shapes:
        acc.conflict = acc.conflict or _difference(acc.arrays.shapes, shapes)
        return False
    return True


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Say where two models differ, for an error text."""
    missing, added = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or added:
        return f"missing {sorted(missing)[:5]}, unexpected {sorted(added)[:5]}"
    key = next(key for key in expected if expected[key] != found[key])
    return f"{key!r} has shape {found[key]}, not {expected[key]}"


def _add_metric(acc: WeightedSum, key: str, scaled: MetricSum, weight: float) -> None:
    total = acc.metrics.get(key)
    acc.metrics[key] = scaled if total is None else _plus(total, scaled)
    acc.metric_weights[key] = acc.metric_weights.get(key, 0.0) + weight


def _plus(left: MetricSum, right: MetricSum) -> MetricSum:
    if not isinstance(left, list) and not isinstance(right, list):
        return left + right
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [a + b for a, b in zip(left, right, strict=True)]
    return math.nan  # and NaN it stays, whatever is added: no order of merging changes the outcome
