"""The older API's contract of a strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod

from umbel.flwr.instructions import EvaluateIns, EvaluateRes, FitIns, FitRes, Scalar
from umbel.flwr.managers import ClientManager, ClientProxy
from umbel.flwr.parameters import Parameters

FitFailures = list[tuple[ClientProxy, FitRes] | BaseException]
EvaluateFailures = list[tuple[ClientProxy, EvaluateRes] | BaseException]


class Strategy(ABC):
    """Who trains on what, and how answers become a model."""

    @abstractmethod
    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """Return the model to begin with; ``None`` asks a client for its own."""

    @abstractmethod
    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Return the clients that train in this round, each with its request."""

    @abstractmethod
    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: FitFailures,
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Return the new model, ``None`` to keep the old one, and metrics."""

    @abstractmethod
    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Return the clients that evaluate in this round, each with its request."""

    @abstractmethod
    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: EvaluateFailures,
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Return the cohort's loss and metrics."""

    @abstractmethod
    def evaluate(
        self, server_round: int, parameters: Parameters
    ) -> tuple[float, dict[str, Scalar]] | None:
        """Return loss and metrics of the model on the server, if it evaluates."""
