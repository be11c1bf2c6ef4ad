"""The older API's requests and answers, and what they are in a message.

Each travels as records named after it: ``fitins.parameters``, ``fitins.config``, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from umbel.base import RecordError
from umbel.flwr.parameters import NUMPY, NDArray, Parameters, record_to_parameters
from umbel.records import ConfigRecord, MetricRecord, RecordDict

Scalar = bool | bytes | float | int | str
Value = Scalar | list[bool] | list[bytes] | list[float] | list[int] | list[str]
Config = dict[str, Scalar]
Properties = dict[str, Scalar]
Metrics = dict[str, Scalar]
MetricsAggregationFn = Callable[[list[tuple[int, Metrics]]], Metrics]
NDArrayInt = NDArray
NDArrayFloat = NDArray


class Code(IntEnum):
    """Whether a client could do what it was asked."""

    OK = 0
    GET_PROPERTIES_NOT_IMPLEMENTED = 1
    GET_PARAMETERS_NOT_IMPLEMENTED = 2
    FIT_NOT_IMPLEMENTED = 3
    EVALUATE_NOT_IMPLEMENTED = 4


@dataclass
class Status:
    """A code and its text."""

    code: Code
    message: str


OK = Status(Code.OK, "Success")


@dataclass
class GetPropertiesIns:
    """Asks for facts about a node."""

    config: Config = field(default_factory=dict)


@dataclass
class GetPropertiesRes:
    """Facts about a node."""

    status: Status
    properties: Properties


@dataclass
class GetParametersIns:
    """Asks for a client's model."""

    config: Config = field(default_factory=dict)


@dataclass
class GetParametersRes:
    """A client's model."""

    status: Status
    parameters: Parameters


@dataclass
class FitIns:
    """Asks for training from a model, with settings."""

    parameters: Parameters
    config: dict[str, Scalar]


@dataclass
class FitRes:
    """A trained model, the number of examples behind it, and metrics."""

    status: Status
    parameters: Parameters
    num_examples: int
    metrics: dict[str, Scalar]


@dataclass
class EvaluateIns:
    """Asks for an evaluation of a model, with settings."""

    parameters: Parameters
    config: dict[str, Scalar]


@dataclass
class EvaluateRes:
    """A loss, the number of examples behind it, and metrics."""

    status: Status
    loss: float
    num_examples: int
    metrics: dict[str, Scalar]


@dataclass
class ReconnectIns:
    """Asks a client to come back later."""

    seconds: int | None = None


@dataclass
class DisconnectRes:
    """Says why a client left."""

    reason: str = ""


Instruction = GetPropertiesIns | GetParametersIns | FitIns | EvaluateIns
Answer = GetPropertiesRes | GetParametersRes | FitRes | EvaluateRes

MESSAGE_TYPES: dict[type, str] = {
    FitIns: "train",
    EvaluateIns: "evaluate",
    GetPropertiesIns: "query.get_properties",
    GetParametersIns: "query.get_parameters",
}


def pack(value: Instruction | Answer) -> RecordDict:
    """Return a request or an answer as the content of a message."""
    name = type(value).__name__.lower()
    content = RecordDict()
    for key, part in vars(value).items():
        if isinstance(part, Parameters):
            content[f"{name}.{key}"] = part.to_record()
            if part.tensor_type != NUMPY:
                content[f"{name}.{key}.type"] = ConfigRecord({"tensor_type": part.tensor_type})
        elif isinstance(part, Status):
            status = {"code": int(part.code), "message": part.message}
            content[f"{name}.{key}"] = ConfigRecord(status)
        elif isinstance(part, dict):
            content[f"{name}.{key}"] = ConfigRecord(part)
        else:
            content[f"{name}.{key}"] = MetricRecord({key: part})
    return content


def unpack(content: RecordDict, kind: type[Any]) -> Any:
    """Return the request or the answer that ``pack`` made a content of.

    Raises
    ------
    RecordError
        The content is not one of this kind.
    """
    name = kind.__name__.lower()
    fields: dict[str, Any] = {}
    record: Any
    for key in kind.__dataclass_fields__:
        record = content.get(f"{name}.{key}")
        if record is None:
            raise RecordError(
                f"the message holds no record {name}.{key}; it holds {sorted(content)}",
                hint="a NumPyClient or Client of the older API needs a strategy of flwr.server; "
                "with one of flwr.serverapp write @app.train() and @app.evaluate()",
            )
        if key == "parameters":
            marker = content.config_records.get(f"{name}.{key}.type")
            tensor_type = NUMPY if marker is None else str(marker["tensor_type"])
            fields[key] = record_to_parameters(content.array_records[f"{name}.{key}"], tensor_type)
        elif key == "status":
            fields[key] = Status(Code(record["code"]), str(record["message"]))
        elif key in ("config", "metrics", "properties"):
            fields[key] = dict(record)
        else:
            fields[key] = record[key]
    return kind(**fields)
