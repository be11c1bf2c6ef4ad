"""Local terms that remember: SCAFFOLD, FedDyn and Ditto keep arrays in the node's state."""

from __future__ import annotations

import numpy as np

from umbel.base import UsageError
from umbel.clientapp.localterm import LocalTerm, kept, model_in, moved, number_in
from umbel.records import ArrayRecord, Context, Message, RecordDict
from umbel.updates import Arrays, NDArray

SCAFFOLD_STATE, FEDDYN_STATE, DITTO_STATE = "scaffold-control", "feddyn-gradient", "ditto-model"
"""The records of the node's state in which they are kept."""


class ScaffoldTerm(LocalTerm):
    """The client's part of SCAFFOLD: the gradient becomes ``g - c_k + c``.

    ``finish`` makes ``c_k^+ = c_k - c + (x - y) / (K lr)`` of the model ``y`` after ``K`` steps of
    plain SGD, keeps it in the node's state, and puts ``c_k^+ - c_k`` into the reply. Karimireddy et
    al. 2020, arXiv:1910.06378, algorithm 1, option II.

    Parameters
    ----------
    message : Message
        The request to train, from the strategy ``Scaffold``.
    context : Context
        The node's; ``c_k`` is in its state, and zero until the first ``finish``.
    learning_rate : float
        The local one, positive. Where it changes from step to step, set ``learning_rate`` to the
        mean before ``finish``.
    record : str, default="arrays"
        The name of the record with the model.

    Raises
    ------
    UsageError
        The message carries no variate, or the learning rate is not positive. From ``finish``: no
        step was taken, or the reply lacks the model.

    Examples
    --------
    >>> model, control = ArrayRecord({"w": np.zeros(2)}), ArrayRecord({"w": np.ones(2)})
    >>> message = Message(RecordDict({"arrays": model, "control": control}), 1, "train")
    >>> term = ScaffoldTerm(message, Context("run", 1), learning_rate=0.5)
    >>> gradient = term.corrected({"w": np.ones(2)}, {"w": np.zeros(2)})["w"]
    >>> content = RecordDict({"arrays": ArrayRecord({"w": -0.5 * gradient})})
    >>> term.finish(content)["control"]["w"].view().tolist()  # the gradient, without c
    [1.0, 1.0]
    """

    def __init__(
        self, message: Message, context: Context, learning_rate: float, *, record: str = "arrays"
    ) -> None:
        control = message.content.array_records.get("control")
        if control is None:
            raise UsageError(
                "the message carries no record 'control'", hint="use the strategy Scaffold"
            )
        if not learning_rate > 0:
            raise UsageError(f"the learning rate is {learning_rate}", hint="it must be positive")
        self.learning_rate = learning_rate
        self._context = context
        self._record = record
        self._control = control.views()
        model = message.content.array_records[record].views()
        self._own = kept(context, SCAFFOLD_STATE, self._control)
        offset = {key: c - self._own[key] for key, c in self._control.items()}
        super().__init__({key: model[key] for key in self._control}, offset=offset)

    def finish(self, content: RecordDict) -> RecordDict:
        """Return the content of the reply with the change of the variate added."""
        if not self.steps:
            raise UsageError(
                "no gradient was corrected, so that there is no variate",
                hint="call correct(model) or corrected(gradients, weights) in every step",
            )
        scale = self.steps * self.learning_rate
        change: dict[str, NDArray] = {}
        for key, distance in moved(content, self._record, self.anchor).items():
            change[key] = np.asarray(distance / scale - self._control[key], distance.dtype)
        own = {key: np.asarray(c + change[key], c.dtype) for key, c in self._own.items()}
        self._context.state[SCAFFOLD_STATE] = ArrayRecord(own)
        return RecordDict({**content, "control": ArrayRecord(change)})


class FedDynTerm(LocalTerm):
    """The client's part of FedDyn: the gradient becomes ``g - g_k + alpha (y - x)``.

    ``finish`` keeps ``g_k <- g_k - alpha (y - x)`` in the node's state; it begins at zero. Acar et
    al. 2021, arXiv:2111.04263, algorithm 1.

    Parameters
    ----------
    message : Message
        The request to train.
    context : Context
        The node's.
    alpha : float, optional
        By default the strategy's, ``config["feddyn-alpha"]``.
    record : str, default="arrays"
        The name of the record with the model.

    Raises
    ------
    UsageError
        There is no model, or no ``alpha``. From ``finish``: the reply lacks the model.

    Examples
    --------
    >>> message = Message(RecordDict({"arrays": ArrayRecord({"w": np.zeros(1)})}), 1, "train")
    >>> context = Context("run", 1)
    >>> after = RecordDict({"arrays": ArrayRecord({"w": np.array([2.0])})})
    >>> content = FedDynTerm(message, context, alpha=0.5).finish(after)
    >>> context.state["feddyn-gradient"]["w"].view().tolist()
    [-1.0]
    """

    def __init__(
        self,
        message: Message,
        context: Context,
        alpha: float | None = None,
        *,
        record: str = "arrays",
    ) -> None:
        alpha = number_in(message, "feddyn-alpha", "FedDyn") if alpha is None else alpha
        model = model_in(message, record)
        self._context = context
        self._record = record
        self._own = kept(context, FEDDYN_STATE, model)
        super().__init__(model, alpha, {key: -g for key, g in self._own.items()})

    def finish(self, content: RecordDict) -> RecordDict:
        """Keep the gradient for the next round, and return the content as it is."""
        own = {
            key: np.asarray(self._own[key] + self.strength * distance, distance.dtype)
            for key, distance in moved(content, self._record, self.anchor).items()
        }
        self._context.state[FEDDYN_STATE] = ArrayRecord(own)
        return content


class DittoTerm(LocalTerm):
    """Ditto: a personal model ``v`` next to the global one, held to it by ``lam / 2 |v - x|^2``.

    The client trains the global model as ever, for FedAvg; and ``personal`` with this term in its
    gradients, which ``keep`` then puts into the node's state. ``lam = 0`` is local training. Li et
    al. 2021, arXiv:2012.04221, algorithm 1.

    Parameters
    ----------
    message : Message
        The request, with the global model ``x``.
    context : Context
        The node's.
    lam : float
        Not negative.
    record : str, default="arrays"
        The name of the record with the model.

    Attributes
    ----------
    personal : ArrayRecord
        The personal model; the first time, the global one.

    Raises
    ------
    UsageError
        There is no model, or ``lam`` is negative.

    Examples
    --------
    >>> message = Message(RecordDict({"arrays": ArrayRecord({"w": np.zeros(1)})}), 1, "train")
    >>> context = Context("run", 1)
    >>> DittoTerm(message, context, lam=0.1).keep({"w": np.array([3.0])})
    >>> DittoTerm(message, context, lam=0.1).personal["w"].view().tolist()
    [3.0]
    """

    def __init__(
        self, message: Message, context: Context, lam: float, *, record: str = "arrays"
    ) -> None:
        super().__init__(model_in(message, record), lam)
        self._context = context
        state = context.state.array_records
        self.personal = ArrayRecord(state.get(DITTO_STATE) or message.content.array_records[record])

    def keep(self, model: Arrays) -> None:
        """Put the trained personal model, a state dict or arrays by name, into the node's state."""
        copies = {key: array.numpy() for key, array in ArrayRecord(model).items()}
        self._context.state[DITTO_STATE] = ArrayRecord(copies)


def local_norm(
    steps: int, *, momentum: float = 0.0, learning_rate: float = 0.0, mu: float = 0.0
) -> float:
    """Return how far local steps go per unit of gradient: ``|a|_1`` of FedNova.

    It is ``steps`` for plain SGD, ``sum_j (1 - rho^j) / (1 - rho)`` with momentum ``rho``, and
    ``sum_j (1 - lr mu)^(j - 1)`` with a proximal term. Wang et al. 2020, arXiv:2007.07481,
    section 4.1.

    Parameters
    ----------
    steps : int
        The number of local steps, at least 1.
    momentum : float
        In ``[0, 1)``.
    learning_rate, mu : float
        The local learning rate and the strength of the proximal term, if there is one.

    Raises
    ------
    UsageError
        A parameter is out of its range.

    Examples
    --------
    >>> local_norm(5), local_norm(3, momentum=0.5), local_norm(2, learning_rate=0.1, mu=1.0)
    (5.0, 4.25, 1.9)
    """
    if not (steps >= 1 and 0 <= momentum < 1 and learning_rate >= 0 and mu >= 0):
        raise UsageError(
            f"local_norm({steps}, momentum={momentum}, learning_rate={learning_rate}, mu={mu}) "
            "is no norm",
            hint="take a step at least; momentum lies in [0, 1)",
        )
    # The response to one gradient of 1, step by step: its velocity, and how far that has moved.
    velocity = distance = total = 1.0
    for _ in range(steps - 1):
        velocity = momentum * velocity - learning_rate * mu * distance
        distance += velocity
        total += abs(distance)
    return total
