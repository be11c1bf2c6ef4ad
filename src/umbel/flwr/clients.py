"""The older API's clients."""

from __future__ import annotations

from typing import Any

from umbel.base import RecordError, UsageError
from umbel.flwr.instructions import (
    OK,
    Config,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Metrics,
    Properties,
    pack,
    unpack,
)
from umbel.flwr.parameters import NDArrays, ndarrays_to_parameters, parameters_to_ndarrays
from umbel.records import Context, Message, RecordDict


class OnNode:
    """What both kinds of clients know about their node; set before a method is called."""

    context: Context

    def get_context(self) -> Context:
        """Return the node's context."""
        return self.context

    def set_context(self, context: Context) -> None:
        """Set the node's context."""
        self.context = context

    @property
    def state(self) -> RecordDict:
        """What is kept from round to round."""
        return self.context.state


class Client(OnNode):
    """A client that answers requests of the older API; override what the strategy asks for."""

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        """Return facts about this node."""
        raise left_out(self, "get_properties")

    def get_parameters(self, ins: GetParametersIns) -> GetParametersRes:
        """Return the local model."""
        raise left_out(self, "get_parameters")

    def fit(self, ins: FitIns) -> FitRes:
        """Train the model received."""
        raise left_out(self, "fit")

    def evaluate(self, ins: EvaluateIns) -> EvaluateRes:
        """Evaluate the model received."""
        raise left_out(self, "evaluate")

    def to_client(self) -> Client:
        """Return the client that answers requests: this one."""
        return self


class NumPyClient(OnNode):
    """A client that works on lists of NumPy arrays; override what the strategy asks for."""

    def get_properties(self, config: Config) -> Properties:
        """Return facts about this node."""
        raise left_out(self, "get_properties")

    def get_parameters(self, config: Config) -> NDArrays:
        """Return the local model."""
        raise left_out(self, "get_parameters")

    def fit(self, parameters: NDArrays, config: Config) -> tuple[NDArrays, int, Metrics]:
        """Return the model after training, the number of examples, and metrics."""
        raise left_out(self, "fit")

    def evaluate(self, parameters: NDArrays, config: Config) -> tuple[float, int, Metrics]:
        """Return the loss, the number of examples, and metrics."""
        raise left_out(self, "evaluate")

    def to_client(self) -> Client:
        """Return a client that answers requests with this object's methods."""
        return OfArrays(self)


class OfArrays(Client):
    """Turns requests into lists of arrays for a ``NumPyClient``."""

    def __init__(self, client: NumPyClient) -> None:
        self.numpy_client = client

    def set_context(self, context: Context) -> None:
        super().set_context(context)
        self.numpy_client.set_context(context)

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        return GetPropertiesRes(OK, self.numpy_client.get_properties(ins.config))

    def get_parameters(self, ins: GetParametersIns) -> GetParametersRes:
        arrays = self.numpy_client.get_parameters(ins.config)
        return GetParametersRes(OK, ndarrays_to_parameters(arrays))

    def fit(self, ins: FitIns) -> FitRes:
        answer = self.numpy_client.fit(parameters_to_ndarrays(ins.parameters), ins.config)
        arrays, num_examples, metrics = self._three(answer, "fit", "parameters")
        return FitRes(OK, ndarrays_to_parameters(arrays), int(num_examples), metrics)

    def evaluate(self, ins: EvaluateIns) -> EvaluateRes:
        answer = self.numpy_client.evaluate(parameters_to_ndarrays(ins.parameters), ins.config)
        loss, num_examples, metrics = self._three(answer, "evaluate", "loss")
        return EvaluateRes(OK, float(loss), int(num_examples), metrics)

    def _three(self, answer: Any, method: str, first: str) -> tuple[Any, Any, Any]:
        if isinstance(answer, tuple) and len(answer) == 3:
            return answer
        raise RecordError(
            f"{type(self.numpy_client).__name__}.{method} returned {type(answer).__name__}",
            hint=f"return the tuple ({first}, num_examples, metrics)",
        )


def left_out(client: object, method: str) -> UsageError:
    """Return the error for a method that the server asked for and the class leaves out."""
    name = type(client).__name__
    return UsageError(
        f"{name} does not implement {method}, which the server asked for",
        hint=f"define {name}.{method}, or configure the strategy not to ask for it",
    )


def answer_message(client: Client, message: Message, context: Context) -> Message:
    """Return a client's reply to a message that carries a request of the older API."""
    client.set_context(context)
    result: Any
    match message.metadata.message_type:
        case "query.get_parameters":
            result = client.get_parameters(unpack(message.content, GetParametersIns))
        case "query.get_properties":
            result = client.get_properties(unpack(message.content, GetPropertiesIns))
        case "evaluate":
            result = client.evaluate(unpack(message.content, EvaluateIns))
        case "train":
            result = client.fit(unpack(message.content, FitIns))
        case other:
            raise UsageError(
                f"a client of the older API does not answer messages of type {other!r}",
                hint="write @app.train(action), @app.evaluate(action) or @app.query(action)",
            )
    return Message(pack(result), reply_to=message)
