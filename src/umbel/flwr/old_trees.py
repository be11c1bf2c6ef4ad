"""The older API's strategies for XGBoost, whose model is bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from umbel import strategies
from umbel.flwr.instructions import EvaluateIns, FitIns, FitRes, Scalar
from umbel.flwr.managers import ClientManager, ClientProxy
from umbel.flwr.old_strategies import FedAvg
from umbel.flwr.old_strategy import FitFailures
from umbel.flwr.parameters import Parameters, record_to_parameters
from umbel.records import ArrayRecord

EvaluateFunction = Callable[
    [int, Parameters, dict[str, Scalar]], tuple[float, dict[str, Scalar]] | None
]
Instruction = TypeVar("Instruction")


class FedXgbBagging(FedAvg):
    """The clients' new trees all join the global model, as in ``umbel.strategies``.

    Parameters
    ----------
    evaluate_function : callable, optional
        ``f(server_round, parameters, {}) -> (loss, metrics)`` of the model as bytes.
    **options
        Those of the older API's ``FedAvg``.
    """

    def __init__(self, evaluate_function: EvaluateFunction | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.evaluate_function = evaluate_function
        self._model = self._model or ArrayRecord()  # there are no trees before the first reply

    def _make_rule(self) -> strategies.FedAvg:
        return strategies.FedXgbBagging()

    def evaluate(
        self, server_round: int, parameters: Parameters
    ) -> tuple[float, dict[str, Scalar]] | None:
        if self.evaluate_function is None:
            return None
        return self.evaluate_function(server_round, parameters, {})

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: FitFailures,
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        joined, metrics = super().aggregate_fit(server_round, results, failures)
        if joined is None:
            return None, metrics
        return record_to_parameters(joined.to_record(), tensor_type=""), metrics


class FedXgbCyclic(FedXgbBagging):
    """One client a round, in turn by their names, returns the next global model.

    Parameters
    ----------
    **options
        Those of the older API's ``FedAvg``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def _make_rule(self) -> strategies.FedAvg:
        return strategies.FedXgbCyclic()

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        return _turn(server_round, super().configure_fit(server_round, parameters, client_manager))

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        return _turn(
            server_round, super().configure_evaluate(server_round, parameters, client_manager)
        )


def _turn(
    server_round: int, drawn: list[tuple[ClientProxy, Instruction]]
) -> list[tuple[ClientProxy, Instruction]]:
    in_order = sorted(drawn, key=lambda pair: (len(pair[0].cid), pair[0].cid))
    return [in_order[(server_round - 1) % len(in_order)]] if in_order else []
