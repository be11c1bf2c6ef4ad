"""Weighted means and medians of lists, as the older API's strategies call them."""

from __future__ import annotations

from typing import Any

import numpy as np

from umbel.base import AggregationError
from umbel.flwr.instructions import FitRes
from umbel.flwr.managers import ClientProxy
from umbel.flwr.parameters import NDArrays, parameters_to_ndarrays
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates import WeightedMean, fold


def aggregate(results: list[tuple[NDArrays, int]]) -> NDArrays:
    """Return the mean of models, each weighted by its number of examples.

    Examples
    --------
    >>> [float(m[0]) for m in aggregate([([np.ones(1)], 1), ([np.full(1, 5.0)], 3)])]
    [4.0]
    """
    contents = [
        RecordDict(
            {
                "arrays": ArrayRecord([np.asarray(array) for array in arrays]),
                "metrics": MetricRecord({"num-examples": num_examples}),
            }
        )
        for arrays, num_examples in results
    ]
    mean = WeightedMean()
    total = fold(mean, contents, len(contents))
    found = None if total is None else mean.finish(total).arrays
    if found is None:
        raise AggregationError("there is no model to average")
    return found.to_numpy_ndarrays()


def aggregate_inplace(results: list[tuple[ClientProxy, FitRes]]) -> NDArrays:
    """Return the mean of the models in clients' answers, weighted by their numbers of examples."""
    return aggregate([(parameters_to_ndarrays(a.parameters), a.num_examples) for _, a in results])


def aggregate_median(results: list[tuple[NDArrays, int]]) -> NDArrays:
    """Return the median of models, coordinate by coordinate."""
    layers: Any = zip(*(arrays for arrays, _ in results), strict=True)
    return [np.asarray(np.median(np.stack(layer), axis=0)) for layer in layers]


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
