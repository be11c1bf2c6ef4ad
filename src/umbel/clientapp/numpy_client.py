"""A client as a class over plain lists of NumPy arrays, and its adapter to messages."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from umbel.base import RecordError, UsageError
from umbel.clientapp.client import Client, not_implemented
from umbel.records import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

NDArrays = list[np.ndarray[Any, Any]]
Config = dict[str, Any]
Metrics = dict[str, Any]

RecordT = TypeVar("RecordT", ArrayRecord, ConfigRecord)


class NumPyClient:
    """Base class of clients that work on lists of NumPy arrays; override what is asked for.

    Examples
    --------
    >>> from umbel.clientapp import ClientApp
    >>> class AddOne(NumPyClient):
    ...     def fit(self, parameters, config):
    ...         return [array + 1 for array in parameters], 10, {"loss": 0.5}
    >>> app = ClientApp(lambda context: AddOne())
    >>> arrays = ArrayRecord([np.zeros(2, np.float32)])
    >>> context = Context(run_id="r", node_id=1, node_config={}, state=RecordDict(), run_config={})
    >>> reply = app(Message(RecordDict({"arrays": arrays}), 1, "train"), context)
    >>> reply.content["arrays"]["0"].numpy()
    array([1., 1.], dtype=float32)
    >>> dict(reply.content["metrics"])
    {'num-examples': 10, 'loss': 0.5}
    """

    def get_properties(self, config: Config) -> Config:
        """Return facts about this node: values that a ``ConfigRecord`` can hold."""
        not_implemented(self, "get_properties")

    def get_parameters(self, config: Config) -> NDArrays:
        """Return the arrays of the local model."""
        not_implemented(self, "get_parameters")

    def fit(self, parameters: NDArrays, config: Config) -> tuple[NDArrays, int, Metrics]:
        """Train on local data.

        Parameters
        ----------
        parameters : list of ndarray
            The global model. The arrays are copies and may be changed in place.
        config : dict
            What the strategy configured for this round.

        Returns
        -------
        parameters : list of ndarray
            The model after training, in the order received.
        num_examples : int
            Number of examples trained on; the weight in the average.
        metrics : dict of str to number
        """
        not_implemented(self, "fit")

    def evaluate(self, parameters: NDArrays, config: Config) -> tuple[float, int, Metrics]:
        """Evaluate on local data.

        Parameters
        ----------
        parameters : list of ndarray
            The global model. The arrays are copies and may be changed in place.
        config : dict
            What the strategy configured for this round.

        Returns
        -------
        loss : float
        num_examples : int
            Number of examples evaluated on; the weight in the average.
        metrics : dict of str to number
        """
        not_implemented(self, "evaluate")

    def to_client(self) -> Client:
        """Return a ``Client`` that handles messages with this object's methods."""
        return _NumPyAdapter(self)


class _NumPyAdapter(Client):
    """Takes messages apart for a ``NumPyClient`` and puts its answers into replies."""

    def __init__(self, client: NumPyClient) -> None:
        self._client = client

    def train(self, message: Message, context: Context) -> Message:
        _only_actions(message, "default")
        arrays, config = _arrays(message), _config(message)
        method = f"{type(self._client).__name__}.fit"
        answer = self._client.fit(arrays.to_numpy_ndarrays(), config)
        form = "(parameters, num_examples, metrics)"
        parameters, num_examples, metrics = _three(answer, method, form)
        content = RecordDict(
            {
                "arrays": _array_record(parameters, list(arrays), method),
                "metrics": _metrics(_counted(num_examples, method), metrics, method),
            }
        )
        return Message(content, reply_to=message)

    def evaluate(self, message: Message, context: Context) -> Message:
        _only_actions(message, "default")
        arrays, config = _arrays(message), _config(message)
        method = f"{type(self._client).__name__}.evaluate"
        answer = self._client.evaluate(arrays.to_numpy_ndarrays(), config)
        loss, num_examples, metrics = _three(answer, method, "(loss, num_examples, metrics)")
        if isinstance(loss, bool) or not isinstance(loss, Real):
            raise RecordError(
                f"{method} returned {type(loss).__name__} as the loss, expected a float",
                hint="turn it into a Python number, for instance with .item()",
            )
        fixed = {"loss": float(loss), **_counted(num_examples, method)}
        content = RecordDict({"metrics": _metrics(fixed, metrics, method)})
        return Message(content, reply_to=message)

    def query(self, message: Message, context: Context) -> Message:
        action = _only_actions(message, "default", "get_properties", "get_parameters")
        config = _config(message)
        if action == "get_parameters":
            method = f"{type(self._client).__name__}.get_parameters"
            arrays = _array_record(self._client.get_parameters(config), [], method)
            return Message(RecordDict({"arrays": arrays}), reply_to=message)
        method = f"{type(self._client).__name__}.get_properties"
        properties = _checked_dict(self._client.get_properties(config), "properties", method)
        try:
            record = ConfigRecord(properties)
        except RecordError as error:
            raise _of_method(error, method, "properties") from error
        return Message(RecordDict({"config": record}), reply_to=message)


def _only_actions(message: Message, *known: str) -> str:
    category, _, action = message.metadata.message_type.partition(".")
    action = action or known[0]
    if action not in known:
        raise UsageError(
            f"a NumPyClient does not answer {category!r} messages with action {action!r}",
            hint=f"its actions are {', '.join(known)}; for others write a Client or use decorators",
        )
    return action


def _arrays(message: Message) -> ArrayRecord:
    record = _record(message, "arrays", ArrayRecord)
    if record is None:
        raise RecordError(
            'the message to a NumPyClient has no record "arrays"; it has '
            f"{', '.join(map(repr, message.content)) or 'none'}",
            hint='put the model into the message as RecordDict({"arrays": ArrayRecord(...)})',
        )
    return record


def _config(message: Message) -> Config:
    record = _record(message, "config", ConfigRecord)
    return {} if record is None else dict(record)


def _record(message: Message, key: str, kind: type[RecordT]) -> RecordT | None:
    record = message.content.get(key)
    if record is not None and not isinstance(record, kind):
        raise RecordError(
            f'record "{key}" of the message to a NumPyClient is {type(record).__name__}, '
            f"not {kind.__name__}",
            hint="keep to the usual keys: arrays, config, metrics",
        )
    return record


def _three(answer: object, method: str, form: str) -> tuple[object, object, object]:
    if isinstance(answer, tuple) and len(answer) == 3:
        return answer
    got = type(answer).__name__
    if isinstance(answer, tuple):
        got = f"a tuple of {len(answer)}"
    raise RecordError(f"{method} returned {got}", hint=f"return the tuple {form}")


def _array_record(parameters: object, names: list[str], method: str) -> ArrayRecord:
    """Return the arrays under ``names`` if there are as many, and numbered otherwise.

    Names survive, so that what came from a torch state dict can go back into one.
    """
    if not isinstance(parameters, (list, tuple)):
        raise RecordError(
            f"{method} returned {type(parameters).__name__} as parameters",
            hint="return a list of NumPy arrays",
        )
    for index, array in enumerate(parameters):
        # NumPy turns 0-d arrays into scalars in arithmetic, so these stand for arrays.
        if not isinstance(array, (np.ndarray, np.generic)):
            raise RecordError(
                f"{method} returned {type(array).__name__} as parameters[{index}], expected a "
                "NumPy array",
                hint="convert it, for instance with tensor.detach().cpu().numpy()",
            )
    if len(names) != len(parameters):
        names = [str(index) for index in range(len(parameters))]
    try:
        return ArrayRecord(dict(zip(names, map(np.asarray, parameters), strict=True)))
    except RecordError as error:
        raise _of_method(error, method, "parameters") from error


def _counted(num_examples: object, method: str) -> dict[str, int]:
    if isinstance(num_examples, bool) or not isinstance(num_examples, Integral):
        raise RecordError(
            f"{method} returned {type(num_examples).__name__} as num_examples, expected an int",
            hint="return the number of examples, for instance len(dataset)",
        )
    if num_examples < 0:
        raise RecordError(
            f"{method} returned num_examples = {num_examples}", hint="a count is not negative"
        )
    return {"num-examples": int(num_examples)}


def _metrics(fixed: Mapping[str, float], metrics: object, method: str) -> MetricRecord:
    own = _checked_dict(metrics, "metrics", method)
    for key, value in fixed.items():
        if key in own and own[key] is not value and own[key] != value:
            raise RecordError(
                f"{method} returned metric {key!r} = {own[key]!r} beside the {key} {value!r}",
                hint="rename the metric: this name is taken by the tuple's own number",
            )
    try:
        return MetricRecord({**fixed, **own})
    except RecordError as error:
        raise _of_method(error, method, "metrics") from error


def _checked_dict(value: object, what: str, method: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(
            f"{method} returned {type(value).__name__} as {what}", hint="return a dict, maybe empty"
        )
    return value


def _of_method(error: RecordError, method: str, what: str) -> RecordError:
    return RecordError(
        f"{method} returned {what} that no record can hold: {error.message}",
        hint=error.hint,
        **error.context,
    )
