"""The mean of updates none of which is longer than a bound, and each of which counts the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from umbel.base import ConfigError, RejectedReply
from umbel.privacy import PerLayer, clip
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates import (
    Aggregator,
    Arrays,
    Both,
    Collect,
    Mapped,
    Mean,
    NDArray,
    WeightedMean,
    WeightedSum,
    cast_back,
    is_whole,
    sum_dtype,
)

WITHIN = "dp-within"
"""The metric that tells which part of the updates was within the bound."""

Release = Callable[[Mean, ArrayRecord], Mean]
"""``release(mean update, model)`` gives the mean model that others may see."""


class ClippedMean(WeightedMean):
    """The mean of clipped updates, and what a function makes of it before anybody sees it.

    An update is what the reply has changed in the arrays of floating-point numbers; the others are
    left as they were sent. It is made and clipped where replies are folded. Their sum moves by at
    most the bound if a reply is added, and by twice that if one is replaced, whatever is in it.

    Parameters
    ----------
    model : ArrayRecord
        The model that was sent. It stays here when the aggregator travels to the workers, which
        have it.
    record : str
        The name of the record that holds it in messages.
    like : WeightedMean
        The fold in whose place this one stands: which arrays there are, and how its weight is
        called. The weight itself is not looked at.
    bound : float or PerLayer
        On the norm of an update.
    release : callable
        ``release(mean, model)``, called once when all replies are folded, also if there are none.
        The mean holds updates in the type in which they were summed, and the metric ``WITHIN``.
    keep_metrics : bool
        Whether the clients' metrics are averaged, or not looked at.

    Raises
    ------
    ConfigError
        An array of the model holds complex numbers, which no rule here is about.
    """

    def __init__(
        self,
        model: ArrayRecord,
        record: str,
        like: WeightedMean,
        bound: float | PerLayer,
        release: Release,
        *,
        keep_metrics: bool,
    ) -> None:
        expected = like.shapes or {key: array.shape for key, array in model.items()}
        views = model.views()
        moving = {key: sum_dtype(views[key].dtype) for key in expected if _moves(key, views[key])}
        super().__init__(
            like.weighted_by,
            shapes={key: expected[key] for key in moving},
            require_finite=False,  # clipping has looked
        )
        self.record = record
        self.bound = bound
        self.keep_metrics = keep_metrics
        self._expected = dict(expected)
        self.moving = moving
        self._model: Arrays | None = views
        self._record_of_model: ArrayRecord | None = model
        self._release: Release | None = release

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": None, "_record_of_model": None, "_release": None}

    def answering(self, sent: RecordDict) -> None:
        self._model = sent.array_records[self.record].views()

    def finish(self, acc: WeightedSum) -> Mean:
        mean = super().finish(acc)
        if acc.arrays is None:
            mean = replace(mean, arrays=self._nothing())
        if self._release is None or self._record_of_model is None:
            return mean
        return self._release(mean, self._record_of_model)

    def _read(self, content: RecordDict) -> tuple[Arrays, MetricRecord]:
        arrays, metrics = _parts(content)
        update, within = self._update(arrays, content)
        kept = dict(metrics) if self.keep_metrics else {}
        return update, MetricRecord({**kept, WITHIN: float(within)})

    def _update(self, arrays: Arrays, content: RecordDict) -> tuple[Arrays, bool]:
        """Return what is added up of a reply, and whether it was within the bound by itself."""
        check_shapes(self._expected, arrays)
        model = self._model or {}
        with np.errstate(over="ignore", invalid="ignore"):
            update = {
                key: np.asarray(np.subtract(arrays[key], model[key], dtype=dtype, casting="unsafe"))
                for key, dtype in self.moving.items()
            }
        clipped = clip(update, self.bound)
        return clipped.update, clipped.within

    def _weight(self, metrics: MetricRecord) -> float:
        return 1.0

    def _nothing(self) -> ArrayRecord:
        return ArrayRecord(
            {key: np.zeros(self.shapes[key], dtype) for key, dtype in self.moving.items()}
        )


def moved(model: ArrayRecord, step: Arrays) -> ArrayRecord:
    """Return the model after a step, in its own dtypes; arrays without a step stay as they are."""
    arrays = dict(model.views())
    for key, value in step.items():
        before = arrays[key]
        after = cast_back(np.asarray(before.astype(value.dtype) + value), before.dtype)
        after.flags.writeable = False
        arrays[key] = after
    return ArrayRecord(arrays)


def clipping_in_place_of(
    folds: Aggregator[Any], make: Callable[[WeightedMean], Aggregator[Any]], *, keep_metrics: bool
) -> Aggregator[Any]:
    """Return a strategy's fold with another one in place of its weighted mean.

    Raises
    ------
    ConfigError
        There is no weighted mean, but something that one client may move without bound; or
        metrics are handed to a function and may not be.
    """
    if type(folds) is WeightedMean:
        return make(folds)
    if type(folds) is Mapped:
        inner = clipping_in_place_of(folds.inner, make, keep_metrics=keep_metrics)
        return Mapped(inner, folds.function)
    if type(folds) is Both and type(folds.second) is Collect:
        if not keep_metrics:
            raise ConfigError(
                "train_metrics_aggr_fn is handed the metrics of every client, which are withheld",
                hint="leave it out, or give release_metrics=True: then they are not private",
            )
        first = clipping_in_place_of(folds.first, make, keep_metrics=keep_metrics)
        return Both(first, folds.second)
    raise ConfigError(
        f"replies are folded by {type(folds).__name__}, and not by a weighted mean of models: one "
        "client might move it by any distance, so no noise is enough",
        hint="wrap FedAvg or one of its family; with compression it is "
        "with_compression(with_central_dp(FedAvg(), ...), ...)",
    )


def _moves(key: str, value: NDArray) -> bool:
    """Whether clients move this array; whole numbers and truth values stay as they are."""
    if value.dtype.kind == "c":
        raise ConfigError("complex numbers are neither clipped nor noised", key=key)
    return not is_whole(value.dtype)


def _parts(content: RecordDict) -> tuple[Arrays, MetricRecord]:
    """Return the arrays of a reply and its metrics, if it has any."""
    records = list(content.array_records.values())
    if len(records) != 1:
        raise RejectedReply(
            f"it carries {len(records)} ArrayRecords ({sorted(content) or 'nothing'}), not one",
            hint="put the trained model under 'arrays'",
        )
    metrics = list(content.metric_records.values())
    return records[0].lent(), metrics[0] if len(metrics) == 1 else MetricRecord()


def check_shapes(expected: Mapping[str, Any], arrays: Arrays) -> None:
    """Raise ``RejectedReply`` unless a reply holds the arrays expected, of real numbers."""
    found = {key: value.shape for key, value in arrays.items()}
    if found == expected:
        for key, value in arrays.items():
            if value.dtype.kind in "cSUMm":
                raise RejectedReply(
                    f"it holds an array of {value.dtype}, not real numbers", key=key
                )
        return
    wrong = sorted(k for k in {*expected, *found} if expected.get(k) != found.get(k))
    raise RejectedReply(
        f"its arrays are not those that are expected: {wrong[:5]}",
        hint="train the model that the message carried, and reply with the same keys",
        key=wrong[0],
    )
