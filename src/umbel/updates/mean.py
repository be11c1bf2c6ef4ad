"""The weighted mean: the aggregator of FedAvg and of nearly everything else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from umbel.base import AggregationError, RejectedReply
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates.aggregator import Aggregator
from umbel.updates.arrays import Arrays, NDArray, cast_back, sum_dtype

_CHUNK_ITEMS = 1 << 16
"""Large arrays are added in pieces of this many items, so that the product stays in the cache."""

MetricSum = float | list[float]


@dataclass
class Mean:
    """The outcome of a :class:`WeightedMean`.

    Attributes
    ----------
    arrays : ArrayRecord or None
        The mean of the replies' arrays, in the dtypes that the replies had.
    metrics : MetricRecord
        The mean of each metric over the replies that carried it.
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

    arrays: dict[str, NDArray] = field(default_factory=dict)
    dtypes: dict[str, np.dtype[Any]] = field(default_factory=dict)
    metrics: dict[str, MetricSum] = field(default_factory=dict)
    metric_weights: dict[str, float] = field(default_factory=dict)
    weight: float = 0.0
    count: int = 0


class WeightedMean(Aggregator[WeightedSum]):
    """The mean of arrays and metrics, weighted by one of the metrics.

    Computes ``sum_k w_k x_k / sum_k w_k`` (McMahan et al. 2017, arXiv:1602.05629, algorithm 1).
    Arrays are summed in float32 if they are narrower, in float64 if they are whole numbers, and
    else in their own dtype; the mean has the dtype that came in, whole numbers rounded.

    Parameters
    ----------
    weighted_by : str, default="num-examples"
        The metric that is the reply's weight; it must be finite and not negative.
    with_arrays : bool, default=True
        Whether replies carry one ``ArrayRecord`` (training) or only metrics (evaluation).
    shapes : mapping of str to tuple of int, optional
        The shapes of the model that was sent. A reply with the same array under another shape is
        rejected by name, instead of failing the round when it meets the others.
    require_finite : bool, default=True
        Reject a reply that holds NaN or infinity, which would spoil the mean for all.

    Raises
    ------
    RejectedReply
        From ``add``: the reply lacks what is needed, or holds what it must not.
    AggregationError
        From ``merge`` and ``finish``: replies have different arrays, or all weights are zero.

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
        self._scratch: dict[np.dtype[Any], NDArray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scratch": {}}

    def zero(self) -> WeightedSum:
        return WeightedSum()

    def add(self, acc: WeightedSum, content: RecordDict) -> WeightedSum:
        arrays = self._arrays(acc, content) if self.with_arrays else {}
        metrics = only_record(content.metric_records, "MetricRecord")
        weight = self._weight(metrics)
        _check_lists(acc, metrics)
        for key, value in arrays.items():
            self._add_array(acc, key, value, weight)
        for key, metric in metrics.items():
            if key != self.weighted_by:
                scaled = (
                    [weight * m for m in metric] if isinstance(metric, list) else (weight * metric)
                )
                _add_metric(acc, key, scaled, weight)
        acc.weight += weight
        acc.count += 1
        return acc

    def merge(self, left: WeightedSum, right: WeightedSum) -> WeightedSum:
        if left.arrays.keys() != right.arrays.keys():
            differing = sorted(left.arrays.keys() ^ right.arrays.keys())
            raise AggregationError(
                f"replies hold different arrays: {differing[:5]} are not in all of them",
                hint="every client must reply with the same keys",
            )
        for key, other in right.arrays.items():
            total = left.arrays[key]
            if total.shape != other.shape:
                raise AggregationError(
                    f"replies hold array {key!r} with shapes {total.shape} and {other.shape}",
                    hint="every client must train the same model",
                    key=key,
                )
            # A partial sum that came through shared memory is read-only.
            out = total if total.flags.writeable and total.dtype == other.dtype else None
            left.arrays[key] = np.asarray(np.add(total, other, out=out))
        _check_lists(left, right.metrics)
        for key, metric in right.metrics.items():
            _add_metric(left, key, metric, right.metric_weights[key])
        left.weight += right.weight
        left.count += right.count
        return left

    def finish(self, acc: WeightedSum) -> Mean:
        if acc.count and not acc.weight > 0:
            raise AggregationError(
                f"the weights of all {acc.count} replies are zero, so there is no mean",
                hint=f"reply with a positive metric {self.weighted_by!r}",
            )
        means: dict[str, NDArray] = {}
        for key, total in acc.arrays.items():
            out = total if total.flags.writeable and total.dtype.kind in "fc" else None
            mean = np.asarray(np.divide(total, acc.weight, out=out, dtype=total.dtype))
            means[key] = cast_back(mean, acc.dtypes[key])
            means[key].flags.writeable = False
        metrics: dict[str, MetricSum] = {}
        for key, value in acc.metrics.items():
            # A metric that only clients of weight zero reported has no mean.
            weight = acc.metric_weights[key] or math.nan
            metrics[key] = (
                [v / weight for v in value] if isinstance(value, list) else value / weight
            )
        arrays = ArrayRecord(means) if self.with_arrays else None
        return Mean(arrays, MetricRecord(metrics), acc.weight, acc.count)

    def pack(self, acc: WeightedSum) -> RecordDict:
        return RecordDict(
            {
                "sums": ArrayRecord(acc.arrays),
                # Empty arrays carry the dtypes: every dtype that can travel has a name there.
                "dtypes": ArrayRecord({k: np.empty(0, d) for k, d in acc.dtypes.items()}),
                "metrics": MetricRecord(acc.metrics),
                "metric-weights": MetricRecord(acc.metric_weights),
                "totals": MetricRecord({"weight": acc.weight, "count": acc.count}),
            }
        )

    def unpack(self, content: RecordDict) -> WeightedSum:
        metrics = content.metric_records
        return WeightedSum(
            arrays=content.array_records["sums"].views(),
            dtypes={k: v.dtype for k, v in content.array_records["dtypes"].views().items()},
            metrics=dict(metrics["metrics"]),  # type: ignore[arg-type]
            metric_weights=dict(metrics["metric-weights"]),  # type: ignore[arg-type]
            weight=float(metrics["totals"]["weight"]),  # type: ignore[arg-type]
            count=int(metrics["totals"]["count"]),  # type: ignore[arg-type]
        )

    def _arrays(self, acc: WeightedSum, content: RecordDict) -> Arrays:
        """Return the reply's arrays after checking everything that could make adding them fail."""
        arrays = only_record(content.array_records, "ArrayRecord").views()
        if acc.arrays and arrays.keys() != acc.arrays.keys():
            differing = sorted(arrays.keys() ^ acc.arrays.keys())
            raise RejectedReply(
                f"its arrays differ from the other replies' in {differing[:5]}",
                hint="every client must reply with the same keys",
            )
        for key, value in arrays.items():
            expected = acc.arrays[key].shape if acc.arrays else self.shapes.get(key, value.shape)
            if value.shape != expected:
                raise RejectedReply(
                    f"its array {key!r} has shape {value.shape}, not {expected}",
                    hint="train the model that the message carried",
                    key=key,
                )
            if self.require_finite and not is_finite(value):
                raise RejectedReply(
                    f"its array {key!r} holds NaN or infinity",
                    hint="training diverged there; lower the learning rate or clip gradients",
                    key=key,
                )
        return arrays

    def _weight(self, metrics: MetricRecord) -> float:
        weight = metrics.get(self.weighted_by)
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            got = "it is missing" if weight is None else f"it is {weight!r}"
            raise RejectedReply(
                f"its weight must be a finite number, at least zero, and {got}",
                hint=f"reply with MetricRecord({{{self.weighted_by!r}: number of examples, ...}})",
                key=self.weighted_by,
            )
        return float(weight)

    def _add_array(self, acc: WeightedSum, key: str, value: NDArray, weight: float) -> None:
        total = acc.arrays.get(key)
        if total is None:
            dtype = sum_dtype(value.dtype)
            acc.arrays[key] = np.asarray(np.multiply(value, weight, dtype=dtype, casting="unsafe"))
            acc.dtypes[key] = value.dtype
            return
        if value.size <= _CHUNK_ITEMS or not (
            value.flags.c_contiguous and total.flags.c_contiguous
        ):
            total += np.multiply(value, weight, dtype=total.dtype, casting="unsafe")
            return
        scratch = self._scratch.get(total.dtype)
        if scratch is None:
            scratch = self._scratch[total.dtype] = np.empty(_CHUNK_ITEMS, total.dtype)
        flat_value, flat_total = value.reshape(-1), total.reshape(-1)
        for start in range(0, value.size, _CHUNK_ITEMS):
            part = flat_value[start : start + _CHUNK_ITEMS]
            product = scratch[: part.size]
            np.multiply(part, weight, out=product, dtype=total.dtype, casting="unsafe")
            flat_total[start : start + _CHUNK_ITEMS] += product


def is_finite(value: NDArray) -> bool:
    """Whether an array holds neither NaN nor infinity; whole numbers always pass.

    Examples
    --------
    >>> is_finite(np.array([1e30, -1e30], np.float32)), is_finite(np.array([np.nan]))
    (True, False)
    """
    if value.dtype.kind in "iubSUMm":
        return True
    if value.dtype.kind == "f" and value.dtype.itemsize in (4, 8) and value.flags.c_contiguous:
        flat = value.reshape(-1)
        # One read at the speed of memory. Squares of finite numbers may overflow, hence the rest.
        if math.isfinite(np.dot(flat, flat)):
            return True
    return bool(np.isfinite(value).all())


def only_record(records: Mapping[str, Any], kind: str) -> Any:
    """Return the one record in ``records``, or reject the reply that holds none or several."""
    if len(records) != 1:
        raise RejectedReply(
            f"it must carry exactly one {kind}, and carries {sorted(records) or 'none'}",
            hint="put one under 'arrays' (training) and one under 'metrics'",
        )
    return next(iter(records.values()))


def _check_lists(acc: WeightedSum, metrics: Mapping[str, Any]) -> None:
    """Reject metrics whose lists do not have the lengths of those summed so far."""
    for key, metric in metrics.items():
        total = acc.metrics.get(key)
        if total is not None and _length(total) != _length(metric):
            raise RejectedReply(
                f"its metric {key!r} does not have as many values as in the other replies",
                hint="metrics that are lists must have the same length everywhere",
                key=key,
            )


def _length(metric: object) -> int | None:
    return len(metric) if isinstance(metric, list) else None


def _add_metric(acc: WeightedSum, key: str, scaled: MetricSum, weight: float) -> None:
    total = acc.metrics.get(key)
    if total is None:
        acc.metrics[key] = scaled
    elif isinstance(total, list) and isinstance(scaled, list):
        acc.metrics[key] = [a + b for a, b in zip(total, scaled, strict=True)]
    elif not isinstance(total, list) and not isinstance(scaled, list):
        acc.metrics[key] = total + scaled
    acc.metric_weights[key] = acc.metric_weights.get(key, 0.0) + weight
