"""SCAFFOLD: control variates take the drift out of the clients' steps."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Unpack

import numpy as np

from umbel.base import ConfigError, is_number
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Grid
from umbel.strategies.fedavg import FedAvg, FedAvgOptions
from umbel.updates import Aggregator, Both, Mapped, Mean, NDArray, UniformMean, scale, zeros

CONTROL = "control"
"""The record with the server's control variate, and in a reply with a client's change of its own.
"""


class Scaffold(FedAvg):
    """Stochastic controlled averaging: local steps go along ``g - c_k + c``.

    ``x <- x + eta (mean - x)`` and ``c <- c + (m / N) mean_k(c_k^+ - c_k)`` over the ``m`` clients
    of the round, out of ``N`` nodes that are connected; both variates begin at zero. The clients'
    part is ``umbel.clientapp.ScaffoldTerm``, which keeps ``c_k`` in the node's state (option II of
    the paper). Karimireddy et al. 2020, arXiv:1910.06378, algorithm 1.

    The model's mean is weighted as in FedAvg (in the paper all clients weigh the same), that of the
    variates is plain. Arrays that take the plain mean (see ``averaged_keys``) have no variate.

    Parameters
    ----------
    server_learning_rate : float, default=1.0
        ``eta``, positive.
    **options
        Those of :class:`FedAvg`.

    Raises
    ------
    ConfigError
        A parameter is out of its range.

    Examples
    --------
    >>> Scaffold(fraction_train=0.2).summary()
    'Scaffold(fraction_train=0.2, fraction_evaluate=1.0, weighted by num-examples)'
    """

    def __init__(
        self, *, server_learning_rate: float = 1.0, **options: Unpack[FedAvgOptions]
    ) -> None:
        if not is_number(server_learning_rate) or server_learning_rate <= 0:
            raise ConfigError(
                f"Scaffold(server_learning_rate={server_learning_rate!r}) cannot step",
                hint="the learning rate is positive",
            )
        optimizer = None if server_learning_rate == 1.0 else scale(server_learning_rate)
        super().__init__(**options, server_optimizer=optimizer)
        self._control: dict[str, NDArray] = {}
        self._nodes = 1

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self._nodes = len(grid.get_node_ids())
        if not self._control:
            views = arrays.views().items()
            self._control = zeros({k: v for k, v in views if self._is_optimized(k, v)})
        control = _frozen(self._control)
        for message in messages:
            message.content[CONTROL] = control
        return messages

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        models = Mapped(super().train_aggregator(server_round), partial(_without, name=CONTROL))
        shapes = {key: value.shape for key, value in self._control.items()}
        return Both(models, UniformMean(CONTROL, shapes=shapes, require_finite=self.require_finite))

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        models, change = value
        self._move_control(change)
        return super().finish_train(server_round, models)

    def state_dict(self) -> RecordDict:
        state = super().state_dict()
        if self._control:
            state[CONTROL] = _frozen(self._control)
        return state

    def load_state_dict(self, state: RecordDict) -> None:
        control = state.array_records.get(CONTROL)
        super().load_state_dict(_without(state, CONTROL))
        self._control = {} if control is None else {k: a.numpy() for k, a in control.items()}

    def _move_control(self, change: Mean) -> None:
        part = change.count / self._nodes
        for key, moved in change.arrays.views().items() if change.arrays is not None else ():
            old = self._control[key]
            self._control[key] = np.asarray(old + part * moved, old.dtype)


def _without(content: RecordDict, name: str) -> RecordDict:
    return RecordDict({key: record for key, record in content.items() if key != name})


def _frozen(arrays: dict[str, NDArray]) -> ArrayRecord:
    """Return a record around the arrays, which nobody changes from now on."""
    for value in arrays.values():
        value.flags.writeable = False
    return ArrayRecord(arrays)
