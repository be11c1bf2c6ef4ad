"""What a cohort agrees on besides the keys: which numbers are summed, and from which model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from umbel.base import ConfigError, UsageError, content_hash
from umbel.records import ConfigRecord, MetricRecord, RecordDict, encode
from umbel.secagg.fixedpoint import FixedPoint
from umbel.updates import Arrays, NDArray, SharedRandomK, matches, trainable

SECAGG_RECORD = "secagg"
"""The record of a message that speaks of secure aggregation; it is no part of what is agreed on."""

_METRIC = "metric:"


@dataclass(frozen=True)
class Plan:
    """Which numbers a cohort sums, and how they are written down.

    Parameters
    ----------
    clip : mapping of str to float
        The largest magnitude of a value of an update, by patterns of array names.
    weight_max : float
        The largest weight of a client.
    bits : {16, 32, 64}
        The size of a number.
    weighted_by : str
        The metric that is a client's weight; empty for equal weights.
    record : str
        The name of the record with the model.
    metrics : mapping of str to float
        The metrics that are summed along, and the largest magnitude of each.
    noise : str
        What clients add to their updates, in words that are not read here; empty for nothing.
    personal : sequence of str
        Patterns of the names of arrays that every client keeps for itself.
    fraction : float
        The part of the entries that is summed, of each array that :func:`trainable` gives; all
        clients draw the same, by a seed that the server sends.
    error_feedback : bool
        Whether clients send later what was not drawn; without, the sum is that much larger.

    Examples
    --------
    >>> plan = Plan({"*": 8.0}, weight_max=100, metrics={"loss": 10.0})
    >>> list(plan.parts({"w": np.zeros(2)}, MetricRecord({"loss": 0.5, "seconds": 3.0})))
    ['metric:loss', 'w']
    >>> Plan.from_config(plan.to_config()) == plan
    True
    """

    clip: Mapping[str, float]
    weight_max: float
    bits: int = 32
    weighted_by: str = "num-examples"
    record: str = "arrays"
    metrics: Mapping[str, float] = field(default_factory=dict)
    noise: str = ""
    personal: tuple[str, ...] = ()
    fraction: float = 1.0
    error_feedback: bool = True

    @property
    def rounds_by_chance(self) -> bool:
        """Whether clients round up or down by chance: with few bits, the mean is right that way.

        Rounded to the nearest, small updates would all be zero.
        """
        return self.bits == 16

    def codec(self, cohort: int) -> FixedPoint:
        """Return the fixed point of a cohort of this size.

        Raises
        ------
        ConfigError
            A bound makes no sense, or the bits are too few for so many clients.
        """
        metrics = {_METRIC + name: bound for name, bound in self.metrics.items()}
        return FixedPoint({**metrics, **self.clip}, self.weight_max, cohort, self.bits)

    def shared(self, arrays: Arrays) -> dict[str, NDArray]:
        """Return the arrays that are not personal."""
        return {key: value for key, value in arrays.items() if not matches(key, self.personal)}

    def codes(self, arrays: Arrays, seed: int) -> dict[str, SharedRandomK]:
        """Return how the arrays are compressed of which not all entries are summed."""
        compressor = SharedRandomK(self.fraction)
        if compressor.keeps_all:
            return {}
        return {key: compressor.drawn(seed, key) for key in trainable(self.shared(arrays))}

    def parts(self, arrays: Arrays, metrics: MetricRecord) -> dict[str, NDArray]:
        """Return the arrays that are summed: the metrics, and those of the model.

        Raises
        ------
        UsageError
            A metric is missing or is no number.
        """
        parts: dict[str, NDArray] = {}
        for name in self.metrics:
            value = metrics.get(name)
            if not isinstance(value, int | float):
                raise UsageError(
                    f"the metric {name!r} is {'missing' if value is None else 'no number'}",
                    hint="reply with it, or leave it out of metrics in with_secagg",
                )
            parts[_METRIC + name] = np.array(float(value))
        return parts | dict(arrays)

    def origin(self, arrays: Arrays) -> dict[str, NDArray]:
        """Return what the parts are measured from: zero, and the model that was sent."""
        origin: dict[str, NDArray] = {_METRIC + name: np.zeros(()) for name in self.metrics}
        origin |= self.shared(arrays)
        for key, code in self.codes(arrays, 0).items():
            origin[key] = np.zeros(code.count(arrays[key].size))
        return origin

    def split(self, parts: Arrays) -> tuple[dict[str, NDArray], MetricRecord]:
        """Return the arrays and the metrics of ``parts``."""
        arrays = dict(parts)
        metrics = {name: float(arrays.pop(_METRIC + name)) for name in self.metrics}
        return arrays, MetricRecord(metrics)

    def to_config(self) -> dict[str, Any]:
        """Return the plan as settings that travel."""
        return {
            "clip": list(self.clip),
            "clip-bounds": [float(bound) for bound in self.clip.values()],
            "weight-max": float(self.weight_max),
            "bits": self.bits,
            "weighted-by": self.weighted_by,
            "record": self.record,
            "metrics": list(self.metrics),
            "metric-bounds": [float(bound) for bound in self.metrics.values()],
            "noise": self.noise,
            "personal": list(self.personal),
            "fraction": float(self.fraction),
            "error-feedback": self.error_feedback,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Plan:
        """Return the plan that ``to_config`` wrote.

        Raises
        ------
        ConfigError
            It is none.
        """
        try:
            return cls(
                dict(zip(config["clip"], config["clip-bounds"], strict=True)),
                float(config["weight-max"]),
                int(config["bits"]),
                str(config["weighted-by"]),
                str(config["record"]),
                dict(zip(config["metrics"], config["metric-bounds"], strict=True)),
                str(config["noise"]),
                tuple(config["personal"]),
                float(config["fraction"]),
                bool(config["error-feedback"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the server's plan of secure aggregation cannot be read: {error!r}",
                hint="server and clients must run versions of Umbel that fit",
            ) from error

    def digest(self, content: RecordDict) -> bytes:
        """Return the hash of the plan and of all that a training message carries.

        Two clients have the same exactly if the server sent both the same model, the same
        configuration and the same plan: one that trains on another model, or with a learning rate
        of zero, must not be hidden behind.
        """
        agreed = RecordDict({SECAGG_RECORD: ConfigRecord(self.to_config())})
        for name in sorted(content):
            if name != SECAGG_RECORD:
                record = content[name]
                agreed[name] = type(record)({key: record[key] for key in sorted(record)})
        return bytes.fromhex(content_hash(encode(agreed)))
