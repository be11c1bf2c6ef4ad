"""Terms that algorithms add to a client's local objective, by their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from umbel.base import UsageError
from umbel.clientapp.torch import add_gradients
from umbel.records import Context, Message, RecordDict
from umbel.updates import Arrays, NDArray, sum_dtype, trainable


class LocalTerm:
    """What is added to the gradient at ``y``: ``offset + strength * (y - anchor)``.

    FedProx, SCAFFOLD, FedDyn and Ditto are such terms. One line of the training loop adds it:
    ``term.correct(model)`` between ``backward()`` and ``step()`` in PyTorch,
    ``gradients = term.corrected(gradients, weights)`` with arrays like NumPy's.

    Parameters
    ----------
    anchor : mapping of str to ndarray
        The arrays that the term holds ``y`` to; only these have a term.
    strength : float
        How strongly, not negative.
    offset : mapping of str to ndarray, optional
        What is added wherever ``y`` is; zero by default.

    Attributes
    ----------
    steps : int
        How many gradients were corrected.

    Examples
    --------
    >>> term = LocalTerm({"w": np.array([1.0])}, strength=0.5)
    >>> term.corrected({"w": np.array([0.0])}, {"w": np.array([3.0])})
    {'w': array([1.])}
    """

    def __init__(self, anchor: Arrays, strength: float = 0.0, offset: Arrays | None = None) -> None:
        if not strength >= 0:
            raise UsageError(f"the strength of a local term is {strength}", hint="give 0 or more")
        self.anchor = anchor
        self.strength = strength
        self.offset: Arrays = {} if offset is None else offset
        self.steps = 0
        self._tensors: dict[str, Any] = {}

    def corrected(self, gradients: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the gradients with the term added, and count a step.

        Parameters
        ----------
        gradients, values : mapping of str to array
            The gradient of the loss and the weights ``y`` that it was taken at, by the names in the
            message: NumPy's or JAX's arrays. Names without an anchor pass as they are.

        Raises
        ------
        UsageError
            No name has an anchor.
        """
        self._check(gradients)
        self.steps += 1
        out = dict(gradients)
        for key in gradients.keys() & self.anchor.keys():
            if key in self.offset:
                out[key] = out[key] + self.offset[key]
            if self.strength:
                out[key] = out[key] + self.strength * (values[key] - self.anchor[key])
        return out

    def correct(self, model: Any) -> None:
        """Add the term to the ``grad`` of a PyTorch model's parameters, and count a step.

        Parameters
        ----------
        model : torch.nn.Module
            Its parameters are named as in the message, as those of ``state_dict()`` are. Those
            without a gradient or without an anchor are left alone.

        Raises
        ------
        UsageError
            No parameter has an anchor.
        """
        self._check(dict(model.named_parameters()))
        self.steps += 1
        anchor = self.anchor if self.strength else {}
        add_gradients(model, anchor, self.strength, self.offset, self._tensors)

    def _check(self, names: Mapping[str, Any]) -> None:
        if self.anchor and not self.anchor.keys() & names.keys():
            raise UsageError(
                "none of the names of these gradients is one of the arrays in the message",
                hint="name them as the server does",
                received=sorted(self.anchor)[:5],
                given=sorted(names)[:5],
            )


class ProximalTerm(LocalTerm):
    """FedProx: ``mu / 2 |y - x|^2`` holds the client to the model ``x`` that it received.

    Li et al. 2020, arXiv:1812.06127, equation 2.

    Parameters
    ----------
    message : Message
        The request to train, with the model under ``record``.
    mu : float, optional
        By default the strategy's, ``config["proximal-mu"]``.
    record : str, default="arrays"
        The name of the record with the model.

    Raises
    ------
    UsageError
        There is no such record, no ``mu``, or ``mu`` is negative.

    Examples
    --------
    >>> from umbel.records import ArrayRecord
    >>> model = RecordDict({"arrays": ArrayRecord({"w": np.zeros(2)})})
    >>> term = ProximalTerm(Message(model, 1, "train"), mu=0.1)
    >>> term.corrected({"w": np.ones(2)}, {"w": np.array([10.0, 0.0])})["w"].tolist()
    [2.0, 1.0]
    """

    def __init__(
        self, message: Message, mu: float | None = None, *, record: str = "arrays"
    ) -> None:
        mu = number_in(message, "proximal-mu", "FedProx") if mu is None else mu
        super().__init__(model_in(message, record), mu)


def model_in(message: Message, record: str) -> dict[str, NDArray]:
    """Return the arrays of a message that gradients move, as read-only views."""
    arrays = message.content.array_records.get(record)
    if arrays is None:
        raise UsageError(
            f"the message carries no ArrayRecord {record!r}, but {sorted(message.content)}",
            hint="name the record with the model",
        )
    return trainable(arrays.views())


def number_in(message: Message, key: str, strategy: str) -> float:
    """Return a number from the message's config records."""
    for record in message.content.config_records.values():
        value = record.get(key)
        if isinstance(value, int | float):
            return float(value)
    raise UsageError(
        f"the message's config has no {key!r}",
        hint=f"use the strategy {strategy}, or put it into train_config",
    )


def moved(content: RecordDict, record: str, anchor: Arrays) -> dict[str, NDArray]:
    """Return ``x - y`` for the model ``y`` of a reply, in the types of sums."""
    arrays = content.array_records.get(record)
    missing = anchor.keys() - (arrays.keys() if arrays is not None else ())
    if arrays is None or missing:
        raise UsageError(
            f"the reply lacks arrays that the message carried: {sorted(missing)[:5]}",
            hint=f"put the trained model under {record!r} before finish()",
        )
    after = arrays.views()
    return {
        key: np.subtract(x, after[key], dtype=sum_dtype(x.dtype), casting="unsafe")
        for key, x in anchor.items()
    }


def kept(context: Context, name: str, like: Arrays) -> dict[str, NDArray]:
    """Return arrays from the node's state; zeros where there are none."""
    record = context.state.array_records.get(name)
    found: Arrays = {} if record is None else record.views()
    return {
        key: found[key] if key in found else np.zeros(value.shape, sum_dtype(value.dtype))
        for key, value in like.items()
    }
