"""Weighted means and medians of lists, as the older API's strategies call them."""

from __future__ import annotations

from typing import Any

import numpy as np

from umbel.base import AggregationError
from umbel.flwr.instructions import FitRes
from umbel.flwr.managers import ClientProxy
from umbel.flwr.parameters import NDArrays, parameters_to_ndarrays
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates import (
    Aggregator,
    BulyanRule,
    KeepReplies,
    KrumRule,
    TrimmedMeanRule,
    WeightedMean,
    fold,
)

Results = list[tuple[NDArrays, int]]
"""Models, each with its number of examples."""


def aggregate(results: Results) -> NDArrays:
    """Return the mean of models, each weighted by its number of examples.

    Examples
    --------
    >>> [float(m[0]) for m in aggregate([([np.ones(1)], 1), ([np.full(1, 5.0)], 3)])]
    [4.0]
    """
    return _combined(WeightedMean(), results)


def aggregate_inplace(results: list[tuple[ClientProxy, FitRes]]) -> NDArrays:
    """Return the mean of the models in clients' answers, weighted by their numbers of examples."""
    return aggregate([(parameters_to_ndarrays(a.parameters), a.num_examples) for _, a in results])


def aggregate_median(results: Results) -> NDArrays:
    """Return the median of models, coordinate by coordinate."""
    layers: Any = zip(*(arrays for arrays, _ in results), strict=True)
    return [np.asarray(np.median(np.stack(layer), axis=0)) for layer in layers]


def aggregate_trimmed_avg(results: Results, proportiontocut: float) -> NDArrays:
    """Return the mean of models, coordinate by coordinate, without a part of the extremes.

    Examples
    --------
    >>> models = [([np.full(1, float(x))], 1) for x in (0, 1, 2, 3, 90)]
    >>> [float(m[0]) for m in aggregate_trimmed_avg(models, 0.2)]
    [2.0]
    """
    return _combined(KeepReplies(TrimmedMeanRule(proportiontocut)), results)


def aggregate_krum(results: Results, num_malicious: int, to_keep: int) -> NDArrays:
    """Return the weighted mean of the ``to_keep`` models that Krum likes best; 0 is the best one.

    Examples
    --------
    >>> models = [([np.full(1, float(x))], 1) for x in (0, 1, 3, 90)]
    >>> [float(m[0]) for m in aggregate_krum(models, 0, 0)]
    [1.0]
    """
    return _combined(KeepReplies(KrumRule(num_malicious, to_keep or 1)), results)


def aggregate_bulyan(
    results: Results, num_malicious: int, aggregation_rule: Any = None, **options: Any
) -> NDArrays:
    """Return what Bulyan makes of models; it selects by Krum, whatever the rule that is given."""
    return _combined(KeepReplies(BulyanRule(num_malicious)), results)


def aggregate_qffl(
    parameters: NDArrays, deltas: list[NDArrays], hs_fll: list[NDArrays] | list[float]
) -> NDArrays:
    """Return ``parameters - sum(deltas) / sum(hs_fll)``, the step of q-FedAvg.

    Examples
    --------
    >>> [float(m[0]) for m in aggregate_qffl([np.ones(1)], [[np.ones(1)], [np.ones(1)]], [2, 2])]
    [0.5]
    """
    total = float(np.sum(np.asarray(hs_fll)))
    steps: Any = zip(*deltas, strict=True)
    return [
        np.asarray(value - sum(step) / total) for value, step in zip(parameters, steps, strict=True)
    ]


def _combined(aggregator: Aggregator[Any], results: Results) -> NDArrays:
    contents = [
        RecordDict(
            {
                "arrays": ArrayRecord([np.asarray(array) for array in arrays]),
                "metrics": MetricRecord({"num-examples": num_examples}),
            }
        )
        for arrays, num_examples in results
    ]
    total = fold(aggregator, contents, len(contents))
    found = None if total is None else aggregator.finish(total).arrays
    if found is None:
        raise AggregationError("there is no model to combine")
    combined: NDArrays = found.to_numpy_ndarrays()
    return combined


def weighted_loss_avg(results: list[tuple[int, float]]) -> float:
    """Return the mean of losses, each weighted by its number of examples.

    Raises
    ------
    AggregationError
        All weights are zero.
    """
    total = sum(num_examples for num_examples, _ in results)
    if not total > 0:
        raise AggregationError("the numbers of examples are all zero, so there is no mean loss")
    return sum(num_examples * loss for num_examples, loss in results) / total
