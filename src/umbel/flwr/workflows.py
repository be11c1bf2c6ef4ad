"""The older API's workflows: all rounds as one callable, whose phases may be callables as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from umbel.base import SYSTEM_CLOCK, UsageError
from umbel.flwr.history import History
from umbel.flwr.old_server import EvaluateResultsAndFailures, FitResultsAndFailures, Server
from umbel.flwr.parameters import Parameters
from umbel.flwr.server_app import LegacyContext, ServerAppComponents, run_rounds
from umbel.records import ConfigRecord
from umbel.serverapp import Grid

MAIN_PARAMS_RECORD = "parameters"
"""The record of the context's state that holds the model."""

MAIN_CONFIGS_RECORD = "config"
"""The record of the context's state that tells the round."""


class Key:
    """What the record of settings tells."""

    CURRENT_ROUND = "current_round"
    START_TIME = "start_time"


Workflow = Callable[[Grid, LegacyContext], None]
"""Reads model and round from the context's state, and leaves the new model there."""


class DefaultWorkflow:
    """All rounds of the older API.

    Parameters
    ----------
    fit_workflow, evaluate_workflow : callable, optional
        ``workflow(grid, context)`` in place of a phase; ``SecAggPlusWorkflow`` is one. It finds the
        model in ``context.state["parameters"]`` and the round in ``context.state["config"]``.
    """

    def __init__(
        self, fit_workflow: Workflow | None = None, evaluate_workflow: Workflow | None = None
    ) -> None:
        self.fit_workflow = fit_workflow
        self.evaluate_workflow = evaluate_workflow

    def __call__(self, grid: Grid, context: LegacyContext) -> None:
        """Run all rounds; ``context.history`` has what they left behind.

        Raises
        ------
        UsageError
            The context is not a ``LegacyContext``.
        """
        if not isinstance(context, LegacyContext):
            raise UsageError(
                f"the workflow was given a {type(context).__name__}",
                hint="workflow(grid, LegacyContext(context, config=..., strategy=...))",
            )
        server = _ByWorkflow(grid, context, self.fit_workflow, self.evaluate_workflow)
        context.strategy = server.strategy
        parts = ServerAppComponents(server=server, config=context.config)
        context.history = run_rounds(grid, parts)


class _ByWorkflow(Server):
    """A server that leaves phases to callables."""

    def __init__(
        self,
        grid: Grid,
        context: LegacyContext,
        fit: Workflow | None,
        evaluate: Workflow | None,
    ) -> None:
        super().__init__(client_manager=context.client_manager, strategy=context.strategy)
        self._grid = grid
        self._context = context
        self._workflows = {"fit": fit, "evaluate": evaluate}
        self._begin_s = SYSTEM_CLOCK.monotonic()

    def fit_round(
        self, server_round: int, timeout: float | None
    ) -> tuple[Parameters | None, dict[str, Any], FitResultsAndFailures] | None:
        left = self._left_to("fit", server_round)
        if left is None:
            return super().fit_round(server_round, timeout)
        arrays = self._context.state.array_records[MAIN_PARAMS_RECORD]
        told = _last(left.metrics_distributed_fit)
        return Parameters.from_record(arrays), told, ([], [])

    def evaluate_round(
        self, server_round: int, timeout: float | None
    ) -> tuple[float | None, dict[str, Any], EvaluateResultsAndFailures] | None:
        left = self._left_to("evaluate", server_round)
        if left is None:
            return super().evaluate_round(server_round, timeout)
        loss = left.losses_distributed[-1][1] if left.losses_distributed else None
        return loss, _last(left.metrics_distributed), ([], [])

    def _left_to(self, phase: str, server_round: int) -> History | None:
        """Let a workflow do a phase; return what it has added to the history."""
        workflow, context = self._workflows[phase], self._context
        if workflow is None:
            return None
        settings = {Key.CURRENT_ROUND: server_round, Key.START_TIME: self._begin_s}
        context.state[MAIN_CONFIGS_RECORD] = ConfigRecord(settings)
        context.state[MAIN_PARAMS_RECORD] = self.parameters.to_record()
        context.history = History()
        workflow(self._grid, context)
        return context.history


def _last(metrics: dict[str, list[tuple[int, Any]]]) -> dict[str, Any]:
    return {name: values[-1][1] for name, values in metrics.items()}
