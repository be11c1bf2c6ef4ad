"""The older API's QFedAvg."""

from __future__ import annotations

from typing import Any

from umbel import strategies
from umbel.base import ConfigError
from umbel.flwr.instructions import FitRes
from umbel.flwr.managers import ClientProxy
from umbel.flwr.old_strategies import FedAvg
from umbel.flwr.parameters import Parameters
from umbel.records import RecordDict

_LOSS = "train_loss"


class QFedAvg(FedAvg):
    """q-FedAvg (Li et al. 2020, arXiv:1905.10497) with the older API's arguments.

    As in Flower, ``evaluate_fn`` tells the loss of the model that was sent, and it is every
    client's. Without it each client tells its own, as in the paper: a metric ``"train_loss"``.

    Parameters
    ----------
    q_param : float, default=0.2
        How much fairness counts.
    qffl_learning_rate : float, default=0.1
        The clients' learning rate.
    **options
        Those of the older API's ``FedAvg``; one client is enough.

    Raises
    ------
    ConfigError
        A parameter is out of its range. In a round: there is no loss.
    """

    def __init__(
        self, *, q_param: float = 0.2, qffl_learning_rate: float = 0.1, **options: Any
    ) -> None:
        self.q_param = q_param
        self.learning_rate = qffl_learning_rate
        least = {"min_fit_clients": 1, "min_evaluate_clients": 1, "min_available_clients": 1}
        super().__init__(**least | options)

    def _make_rule(self) -> strategies.FedAvg:
        return strategies.QFedAvg(
            client_learning_rate=self.learning_rate, q=self.q_param, train_loss_key=_LOSS
        )

    def _contents(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]]
    ) -> list[RecordDict]:
        contents = super()._contents(server_round, results)
        told = None
        if self._model is not None:
            told = self.evaluate(server_round, Parameters.from_record(self._model))
        if told is not None:
            for content in contents:
                content.metric_records["metrics"][_LOSS] = float(told[0])
        elif not any(_LOSS in content.metric_records["metrics"] for content in contents):
            raise ConfigError(
                "QFedAvg weights clients by their loss, and there is none",
                hint=f'give it evaluate_fn, or return {{"{_LOSS}": loss}} from fit()',
                round=server_round,
            )
        return contents
