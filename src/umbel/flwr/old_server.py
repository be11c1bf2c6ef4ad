"""The older API's round loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from logging import INFO
from typing import Any

from umbel.base import SYSTEM_CLOCK, NotEnoughNodes
from umbel.flwr.history import History
from umbel.flwr.instructions import EvaluateIns, EvaluateRes, FitIns, FitRes, GetParametersIns
from umbel.flwr.logs import log
from umbel.flwr.managers import ClientManager, ClientProxy, ask_all
from umbel.flwr.old_strategy import Strategy
from umbel.flwr.parameters import NUMPY, Parameters
from umbel.records import MetricRecord
from umbel.serverapp import Result, RoundTiming, Run, require_finite

FitResultsAndFailures = tuple[list[tuple[ClientProxy, FitRes]], list[Any]]
EvaluateResultsAndFailures = tuple[list[tuple[ClientProxy, EvaluateRes]], list[Any]]


@dataclass
class ServerConfig:
    """How many rounds, and how many seconds each phase waits (None waits for ever)."""

    num_rounds: int = 1
    round_timeout: float | None = None


class Server:
    """Runs the rounds; override ``fit``, ``fit_round`` or ``evaluate_round``.

    Parameters
    ----------
    client_manager : ClientManager
        Draws the clients.
    strategy : Strategy, optional
        FedAvg by default.
    """

    run: Run | None = None
    """The run in progress; rounds are told to its log."""

    def __init__(self, *, client_manager: ClientManager, strategy: Strategy | None = None) -> None:
        if strategy is None:
            from umbel.flwr.old_strategies import FedAvg

            strategy = FedAvg()
        self._client_manager = client_manager
        self.strategy = strategy
        self.parameters = Parameters([], NUMPY)
        self.max_workers: int | None = None

    def set_max_workers(self, max_workers: int | None) -> None:
        """Take note of a number of threads; clients run in the grid's workers."""
        self.max_workers = max_workers

    def set_strategy(self, strategy: Strategy) -> None:
        """Replace the strategy."""
        self.strategy = strategy

    def client_manager(self) -> ClientManager:
        """Return the client manager."""
        return self._client_manager

    def disconnect_all_clients(self, timeout: float | None) -> None:
        """Let the clients go; those of a grid go when the run ends."""

    def fit(self, num_rounds: int, timeout: float | None) -> tuple[History, float]:
        """Run all rounds; return what they left behind and how many seconds they took."""
        begin, history = SYSTEM_CLOCK.monotonic(), History()
        result = self._begin(num_rounds)
        self.parameters = self._get_initial_parameters(0, timeout)
        self._evaluate_on_server(0, history)
        for server_round in range(1, num_rounds + 1):
            self._round(server_round, num_rounds, timeout, history, result)
        if self.parameters.tensor_type == NUMPY:
            result.arrays = self.parameters.to_record()
        return history, SYSTEM_CLOCK.monotonic() - begin

    def fit_round(
        self, server_round: int, timeout: float | None
    ) -> tuple[Parameters | None, dict[str, Any], FitResultsAndFailures] | None:
        """Run the training of one round."""
        instructions = self.strategy.configure_fit(
            server_round, self.parameters, self._client_manager
        )
        if not instructions:
            log(INFO, "round %d: no client trains", server_round)
            return None
        self._begin_phase("train", instructions)
        begin = SYSTEM_CLOCK.monotonic()
        results, failures = fit_clients(instructions, self.max_workers, timeout, server_round)
        parameters, metrics = self.strategy.aggregate_fit(server_round, results, failures)
        if parameters is not None and parameters.tensor_type == NUMPY:
            require_finite(parameters.to_record(), server_round)
        self._end_phase(server_round, "train", results, failures, metrics, begin)
        return parameters, metrics, (results, failures)

    def evaluate_round(
        self, server_round: int, timeout: float | None
    ) -> tuple[float | None, dict[str, Any], EvaluateResultsAndFailures] | None:
        """Run the evaluation of one round."""
        instructions = self.strategy.configure_evaluate(
            server_round, self.parameters, self._client_manager
        )
        if not instructions:
            return None
        self._begin_phase("evaluate", instructions)
        begin = SYSTEM_CLOCK.monotonic()
        results, failures = evaluate_clients(instructions, self.max_workers, timeout, server_round)
        loss, metrics = self.strategy.aggregate_evaluate(server_round, results, failures)
        told = dict(metrics) if loss is None else {"loss": loss, **metrics}
        self._end_phase(server_round, "evaluate", results, failures, told, begin)
        return loss, metrics, (results, failures)

    def _round(
        self,
        server_round: int,
        num_rounds: int,
        timeout: float | None,
        history: History,
        result: Result,
    ) -> None:
        begin = SYSTEM_CLOCK.monotonic()
        if self.run is not None:
            self.run.server_round = server_round
            self.run.emit("round_started", round=server_round, num_rounds=num_rounds)
        if fitted := self.fit_round(server_round, timeout):
            parameters, metrics, _ = fitted
            if parameters is not None:
                self.parameters = parameters
            history.add_metrics_distributed_fit(server_round, metrics)
        self._evaluate_on_server(server_round, history)
        if evaluated := self.evaluate_round(server_round, timeout):
            loss, metrics, _ = evaluated
            if loss is not None:
                history.add_loss_distributed(server_round, loss)
            history.add_metrics_distributed(server_round, metrics)
        seconds = SYSTEM_CLOCK.monotonic() - begin
        result.timings[server_round] = RoundTiming(total_s=seconds)
        if self.run is not None:
            self.run.emit(
                "round_finished", round=server_round, num_rounds=num_rounds, seconds=seconds
            )

    def _get_initial_parameters(self, server_round: int, timeout: float | None) -> Parameters:
        """Return the model to begin with: the strategy's, or else that of one client."""
        parameters = self.strategy.initialize_parameters(self._client_manager)
        if parameters is not None:
            return parameters
        drawn = self._client_manager.sample(1)
        if not drawn:
            raise NotEnoughNodes(
                "there is no client to ask for the initial model",
                hint="run with more nodes, or give the strategy initial_parameters",
            )
        answer = drawn[0].get_parameters(GetParametersIns({}), timeout, server_round)
        return answer.parameters

    def _evaluate_on_server(self, server_round: int, history: History) -> None:
        begin = SYSTEM_CLOCK.monotonic()
        outcome = self.strategy.evaluate(server_round, self.parameters)
        if outcome is None:
            return
        loss, metrics = outcome
        history.add_loss_centralized(server_round, loss)
        history.add_metrics_centralized(server_round, metrics)
        if self.run is not None:
            seconds = SYSTEM_CLOCK.monotonic() - begin
            told = numbers({"loss": loss, **metrics})
            self.run.emit("server_evaluated", round=server_round, metrics=told, seconds=seconds)
            self.run.record_metrics("server", MetricRecord(told))

    def _begin(self, num_rounds: int) -> Result:
        result = Result()
        if self.run is not None:
            self.run.result = result
            name = type(self.strategy).__name__
            # It is none of the calls of strategy.start, which are numbered from 1.
            self.run.emit("strategy_started", strategy=name, num_rounds=num_rounds, start=0)
        return result

    def _begin_phase(self, phase: str, instructions: Sequence[tuple[ClientProxy, Any]]) -> None:
        if self.run is not None:
            self.run.begin_phase(phase, [proxy.node_id for proxy, _ in instructions])

    def _end_phase(
        self,
        server_round: int,
        phase: str,
        results: Sequence[Any],
        failures: Sequence[Any],
        metrics: dict[str, Any],
        begin: float,
    ) -> None:
        if self.run is None:
            return
        told = numbers(metrics)
        self.run.emit(
            "phase_finished",
            round=server_round,
            phase=phase,
            replies=len(results),
            failures=len(failures),
            metrics=told,
            seconds=SYSTEM_CLOCK.monotonic() - begin,
        )
        self.run.record_metrics(phase, MetricRecord(told))


def numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return those metrics that a run's log can show."""
    return {
        key: float(value)
        for key, value in metrics.items()
        if not isinstance(value, bool | str | bytes | list)
    }


def fit_clients(
    client_instructions: Sequence[tuple[ClientProxy, FitIns]],
    max_workers: int | None,
    timeout: float | None,
    group_id: int,
) -> FitResultsAndFailures:
    """Let clients train; ``max_workers`` is that of the grid, whatever is given here."""
    return ask_all(client_instructions, timeout, group_id)


def evaluate_clients(
    client_instructions: Sequence[tuple[ClientProxy, EvaluateIns]],
    max_workers: int | None,
    timeout: float | None,
    group_id: int,
) -> EvaluateResultsAndFailures:
    """Let clients evaluate; ``max_workers`` is that of the grid, whatever is given here."""
    return ask_all(client_instructions, timeout, group_id)
