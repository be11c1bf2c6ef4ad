"""The round loop that ``Strategy.start`` runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from umbel.base import (
    SYSTEM_CLOCK,
    AggregationError,
    ConfigError,
    NotEnoughReplies,
    PrivacyBudgetExhausted,
    UsageError,
    random_state,
    set_random_state,
)
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord
from umbel.serverapp.checkpoint import Checkpoint
from umbel.serverapp.grid import Grid
from umbel.serverapp.result import Result, RoundTiming, failure_causes
from umbel.serverapp.strategy import Callback, EvaluateFn, ShouldStop, Strategy
from umbel.updates import all_finite

Phase = Literal["train", "evaluate"]
NOT_FINITE = "the new global model holds NaN or infinity"
Outcome = tuple[ArrayRecord | None, MetricRecord | None]


class RoundLoop:
    """One execution of a strategy over a grid."""

    def __init__(
        self,
        strategy: Strategy,
        grid: Grid,
        timeout: float,
        train_config: ConfigRecord | None,
        evaluate_config: ConfigRecord | None,
        evaluate_fn: EvaluateFn | None,
    ) -> None:
        self._strategy = strategy
        self._grid = grid
        self._run = grid.run
        self._timeout = timeout
        self._configs = {"train": train_config, "evaluate": evaluate_config}
        self._evaluate_fn = evaluate_fn
        self._result = Result()
        self._begun = self._finished = False
        self._rounds_done = 0

    def begin(self, initial_arrays: ArrayRecord) -> None:
        """Publish the model to begin with: that of the run's last checkpoint, if there is one."""
        if not isinstance(initial_arrays, ArrayRecord):
            raise UsageError(
                f"initial_arrays is a {type(initial_arrays).__name__}, not an ArrayRecord",
                hint="wrap it: ArrayRecord(model.state_dict()), or ArrayRecord(list_of_ndarrays)",
            )
        run = self._run
        run.start, run.server_round = run.start + 1, 0
        self._strategy.run = run
        kept = run.checkpoints.latest(run.start) if run.checkpoints is not None else None
        if kept is None:
            run.result = self._result
            self._result.arrays = self._grid.publish(initial_arrays)
            return
        self._begun, self._finished = True, kept.finished
        self._rounds_done, self._result = kept.server_round, kept.result
        run.result = self._result
        run.failures.extend(self._result.failures)
        self._strategy.load_state_dict(kept.strategy)
        self._grid.load_state_dict(kept.grid)
        set_random_state(kept.random)
        if not self._finished:
            self._result.arrays = self._grid.publish(self._result.arrays)

    def run(
        self,
        num_rounds: int,
        should_stop: ShouldStop | None,
        callbacks: Sequence[Callback],
    ) -> Result:
        """Run up to ``num_rounds`` rounds."""
        if not _is_count(num_rounds):
            raise ConfigError(f"num_rounds is a whole number, not negative, got {num_rounds!r}")
        most = self._strategy.rounds_max
        if most is not None and num_rounds > most:
            raise ConfigError(
                f"the strategy is made for {most} rounds, and num_rounds={num_rounds}",
                hint="make it for as many rounds as the run has, or lower num_rounds",
            )
        if not _is_timeout(self._timeout):
            raise ConfigError(f"timeout is a number of seconds or None, got {self._timeout!r}")
        functions: dict[str, Any] = {"evaluate_fn": self._evaluate_fn, "should_stop": should_stop}
        functions |= {f"callbacks[{place}]": call for place, call in enumerate(callbacks)}
        for name, function in functions.items():
            if function is not None and not callable(function):
                raise UsageError(f"{name} is a {type(function).__name__}, not a function")
        result, run = self._result, self._run
        if self._finished:
            return result
        if not self._begun:
            run.emit(
                "strategy_started",
                strategy=self._strategy.summary(),
                num_rounds=num_rounds,
                start=run.start,
            )
            self._evaluate_on_server(RoundTiming())
            self._save(0, finished=num_rounds == 0)
        for server_round in range(self._rounds_done + 1, num_rounds + 1):
            try:
                self._round(server_round, num_rounds)
            except PrivacyBudgetExhausted as exhausted:
                self._stop(server_round, exhausted)
                break
            for callback in callbacks:
                callback(server_round, result)
            stop = should_stop is not None and should_stop(server_round, result)
            result.stopped_early = bool(stop) and server_round < num_rounds
            # Only now is the round over: what was cut off before is done again, all of it.
            self._save(server_round, finished=bool(stop) or server_round == num_rounds)
            if stop:
                break
        run.server_round = 0
        return result

    def _stop(self, server_round: int, exhausted: PrivacyBudgetExhausted) -> None:
        """End in good order before a round that may not be: the rounds so far are the result."""
        self._result.stopped_early = True
        self._run.emit("privacy_budget_exhausted", round=server_round, reason=exhausted.message)
        # Under the number of this round, since the checkpoint of the last one is there already.
        self._save(server_round, finished=True)

    def _save(self, server_round: int, *, finished: bool) -> None:
        """Save a checkpoint, if the run is resumable."""
        run = self._run
        if run.checkpoints is None:
            return
        run.save(
            Checkpoint(
                run.start,
                server_round,
                finished,
                self._result,
                self._strategy.state_dict(),
                self._grid.state_dict(),
                random_state(),
                self._grid.stored(self._result.arrays),
            )
        )
        self._grid.checkpointed()

    def _round(self, server_round: int, num_rounds: int) -> None:
        begin, timing = SYSTEM_CLOCK.monotonic(), RoundTiming()
        self._run.server_round = server_round
        self._run.emit("round_started", round=server_round, num_rounds=num_rounds)

        (arrays, metrics), timing.train_s = self._phase("train")
        if arrays is not None:
            self._result.arrays = self._grid.publish(arrays)
            del arrays  # what is published may lie elsewhere
        if metrics is not None:
            self._result.train_metrics_clientapp[server_round] = metrics
        (_, metrics), timing.evaluate_s = self._phase("evaluate")
        if metrics is not None:
            self._result.evaluate_metrics_clientapp[server_round] = metrics
        self._evaluate_on_server(timing)

        timing.total_s = SYSTEM_CLOCK.monotonic() - begin
        self._result.timings[server_round] = timing
        self._run.emit(
            "round_finished", round=server_round, num_rounds=num_rounds, seconds=timing.total_s
        )

    def _phase(self, phase: Phase) -> tuple[Outcome, float]:
        """Run one phase, repeating it where the strategy says so; return its outcome and time."""
        begin = SYSTEM_CLOCK.monotonic()
        outcome: Outcome = (None, None)
        for attempt in range(1 + self._strategy.max_repeats):
            try:
                outcome = self._try(phase, attempt, begin)
                break
            except NotEnoughReplies as error:
                # Ours, or of a strategy that talks to its nodes by itself before or after.
                if self._after_shortfall(phase, attempt, error) == "skip":
                    break
        return outcome, SYSTEM_CLOCK.monotonic() - begin

    def _try(self, phase: Phase, attempt: int, begin: float) -> Outcome:
        """Run one phase once; return its outcome."""
        messages = self._configure(phase, attempt)
        if not messages:
            if phase == "evaluate":
                return None, None
            return self._sound(self._strategy.without_cohort(self._run.server_round))
        count, outcome = self._attempt(phase, messages)
        self._run.sort_phase_failures()
        needed = self._strategy.replies_needed(len(messages))
        if count < needed:
            raise self._too_few(phase, count, needed, len(messages))
        seconds = SYSTEM_CLOCK.monotonic() - begin
        self._finish_phase(phase, count, len(messages) - count, outcome[1], seconds)
        return outcome

    def _after_shortfall(
        self, phase: Phase, attempt: int, error: NotEnoughReplies
    ) -> Literal["repeat", "skip"]:
        """Return what too few replies lead to, unless the run ends with the error."""
        then = self._strategy.on_shortfall
        if then == "repeat" and attempt == self._strategy.max_repeats:
            then = "end"
        self._run.emit(
            "phase_fell_short",
            round=self._run.server_round,
            phase=phase,
            replies=error.context.get("replies"),
            needed=error.context.get("needed"),
            then=then,
            reason=error.message,
        )
        if then == "end":
            raise error
        return then

    def _configure(self, phase: Phase, attempt: int) -> list[Message]:
        server_round, run = self._run.server_round, self._run
        run.attempt = attempt
        # Copies, so that whatever an override does to them stays in this phase.
        config = ConfigRecord(self._configs[phase]).copy()
        config["server-round"] = server_round
        arrays = self._strategy.current_arrays = self._result.arrays.copy()
        configure = getattr(self._strategy, f"configure_{phase}")
        messages = list(configure(server_round, arrays, config, self._grid))
        group = str(server_round) if attempt == 0 else f"{server_round}.{attempt}"
        for message in messages:
            if not message.metadata.group_id:
                message.metadata.group_id = group
        if messages:
            run.begin_phase(phase, [message.metadata.dst_node_id for message in messages])
        return messages

    def _attempt(self, phase: Phase, messages: list[Message]) -> tuple[int, Outcome]:
        """Send the messages; return how many replies were usable, and what they gave."""
        strategy, server_round = self._strategy, self._run.server_round
        needed = strategy.replies_needed(len(messages))
        aggregate = getattr(strategy, f"aggregate_{phase}")
        if getattr(aggregate, "__func__", None) is getattr(Strategy, f"aggregate_{phase}"):
            aggregator = getattr(strategy, f"{phase}_aggregator")(server_round)
            folded = self._grid.fold(messages, aggregator, timeout=self._timeout, needed=needed)
            if folded.count < needed:
                return folded.count, (None, None)
            outcome = getattr(strategy, f"finish_{phase}")(server_round, folded.value)
            return folded.count, self._sound(checked(phase, outcome))
        # A strategy that aggregates itself is handed the replies, all of them at hand.
        replies = self._grid.send_and_receive(messages, timeout=self._timeout)
        count = sum(reply.has_content() for reply in replies)
        if count < needed:
            return count, (None, None)
        failed_before = len(self._run.failures)
        outcome = aggregate(server_round, replies)
        # It may have called super(), and that may have rejected some of them.
        count -= len(self._run.failures) - failed_before
        return count, self._sound(checked(phase, outcome))

    def _sound(self, outcome: Outcome) -> Outcome:
        """Return the outcome of a phase, if the next round can begin with its model."""
        if outcome[0] is not None and self._strategy.require_finite:
            require_finite(outcome[0], self._run.server_round)
        return outcome

    def _finish_phase(
        self, phase: Phase, count: int, failed: int, metrics: MetricRecord | None, seconds: float
    ) -> None:
        self._run.emit(
            "phase_finished",
            round=self._run.server_round,
            phase=phase,
            replies=count,
            failures=failed,
            metrics=dict(metrics or {}),
            seconds=seconds,
        )
        if metrics is not None:
            self._run.record_metrics(phase, metrics)

    def _evaluate_on_server(self, timing: RoundTiming) -> None:
        if self._evaluate_fn is None:
            return
        begin, server_round = SYSTEM_CLOCK.monotonic(), self._run.server_round
        metrics = _metrics(self._evaluate_fn(server_round, self._result.arrays.copy()))
        timing.server_evaluate_s = SYSTEM_CLOCK.monotonic() - begin
        if metrics is None:
            return
        self._result.evaluate_metrics_serverapp[server_round] = metrics
        self._run.emit(
            "server_evaluated",
            round=server_round,
            metrics=dict(metrics),
            seconds=timing.server_evaluate_s,
        )
        self._run.record_metrics("server", metrics)

    def _too_few(self, phase: Phase, count: int, needed: int, cohort: int) -> NotEnoughReplies:
        told = failure_causes(self._run.phase_failures)
        return NotEnoughReplies(
            f"{count} of {cohort} clients gave a usable reply and {needed} are needed"
            + (f"; {'; '.join(told)}" if told else ""),
            hint="mend the clients, lower min_completion, or set on_shortfall",
            round=self._run.server_round,
            phase=phase,
            replies=count,
            needed=needed,
        )


def checked(phase: Phase, outcome: object) -> Outcome:
    """Return what a strategy's aggregation gave, if it is of the types agreed upon.

    Raises
    ------
    UsageError
        It is not.
    """
    if phase == "evaluate":
        return None, _metrics(outcome)
    if not isinstance(outcome, tuple) or len(outcome) != 2:
        raise UsageError(
            f"training was aggregated to a {type(outcome).__name__}, not to a pair",
            hint="return (arrays, metrics); None for either is fine",
        )
    arrays, metrics = outcome
    if arrays is not None and not isinstance(arrays, ArrayRecord):
        raise UsageError(
            f"training was aggregated to arrays of type {type(arrays).__name__}",
            hint="return (ArrayRecord(...), metrics)",
        )
    return arrays, _metrics(metrics)


def require_finite(arrays: ArrayRecord, server_round: int) -> None:
    """Raise unless all numbers of a new global model are finite.

    Raises
    ------
    AggregationError
        They are not; the text names the first array that has others.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        views = arrays.views()
        if all_finite(list(views.values())):
            return
        key = next(key for key, value in views.items() if not all_finite([value]))
    raise AggregationError(
        NOT_FINITE,
        hint="look at what aggregates the replies: its steps are too large, or it divides by zero",
        round=server_round,
        key=key,
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_timeout(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and value >= 0)


def _metrics(value: object) -> MetricRecord | None:
    if value is None or isinstance(value, MetricRecord):
        return value
    raise UsageError(
        f"metrics came as a {type(value).__name__}, not as a MetricRecord",
        hint='return MetricRecord({"loss": loss, ...}), or None',
    )
