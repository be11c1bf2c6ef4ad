"""Metrics: named numbers that a client or a strategy reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.records.values import METRIC_KINDS, ValueRecord

MetricScalar = int | float
MetricRecordValues = MetricScalar | list[int] | list[float]


class MetricRecord(ValueRecord[MetricRecordValues]):
    """Named metrics: each an int, a float, or a list of one of them.

    Parameters
    ----------
    metric_dict : mapping from str to number or list of numbers, optional
        NumPy scalars and arrays of at most one dimension are turned into Python numbers.
    keep_input : bool
        False empties the mapping given.

    Raises
    ------
    RecordError
        If a value is anything else, such as a bool, text or None.

    Examples
    --------
    >>> import numpy as np
    >>> metrics = MetricRecord({"loss": np.float32(0.5), "num-examples": 10})
    >>> metrics["losses"] = [0.9, 0.5]
    >>> metrics
    MetricRecord({'loss': 0.5, 'num-examples': 10, 'losses': [0.9, 0.5]})
    """

    __slots__ = ()
    kinds = METRIC_KINDS
    holds = "metric"

    def __init__(
        self, metric_dict: Mapping[str, Any] | None = None, keep_input: bool = True
    ) -> None:
        self._fill(metric_dict, keep_input)
