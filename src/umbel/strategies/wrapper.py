"""The base of strategies around another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from umbel.base import ConfigError
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Grid, Run, Sampler, Strategy
from umbel.updates import Aggregator


class Wrapper(Strategy):
    """Does what the strategy inside does; override what is to be done otherwise.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped; it is used from here on through the wrapper alone.
    purpose : str
        What the wrapper is for, for the error text.

    Attributes
    ----------
    replies_are : str
        What its clients send where it is no model; nothing can be wrapped around it then.

    Raises
    ------
    ConfigError
        The strategy overrides ``aggregate_train``, ``aggregate_evaluate`` or ``start``, and so
        would do something else than the wrapper, which changes what is folded; or its clients send
        something else than models.
    """

    replies_are: ClassVar[str] = ""
    not_overridden: ClassVar[tuple[str, ...]] = ("aggregate_train", "aggregate_evaluate", "start")
    """What the strategy inside may not override."""

    def __init__(self, strategy: Strategy, purpose: str) -> None:
        check_can_be_wrapped(strategy, purpose)
        for name in self.not_overridden:
            if getattr(type(strategy), name) is not getattr(Strategy, name):
                raise ConfigError(
                    f"{type(strategy).__name__} overrides {name}, so its replies cannot be "
                    f"{purpose}",
                    hint="override train_aggregator and finish_train instead",
                )
        self.inner = strategy
        self.arrayrecord_key = str(getattr(strategy, "arrayrecord_key", "arrays"))
        self.min_completion = strategy.min_completion
        self.on_shortfall = strategy.on_shortfall
        self.max_repeats = strategy.max_repeats
        self.require_finite = strategy.require_finite
        self.rounds_max = strategy.rounds_max
        self.looks_at_clients = strategy.looks_at_clients

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self._lent().configure_train(server_round, arrays, config, grid)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        return self._lent().configure_evaluate(server_round, arrays, config, grid)

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        return self._lent().train_aggregator(server_round)

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return self._lent().finish_train(server_round, value)

    def without_cohort(self, server_round: int) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return self._lent().without_cohort(server_round)

    def evaluate_aggregator(self, server_round: int) -> Aggregator[Any]:
        return self._lent().evaluate_aggregator(server_round)

    def finish_evaluate(self, server_round: int, value: Any) -> MetricRecord | None:
        return self._lent().finish_evaluate(server_round, value)

    def sampler(self, message_type: str) -> Sampler | None:
        return self.inner.sampler(message_type)

    def replies_needed(self, cohort: int) -> int:
        return self.inner.replies_needed(cohort)

    def state_dict(self) -> RecordDict:
        return self.inner.state_dict()

    def load_state_dict(self, state: RecordDict) -> None:
        self.inner.load_state_dict(state)

    def shared_seed(self, run: Run) -> int:
        """Return the seed of what all clients draw alike in the training that is being made."""
        place = (run.start, run.server_round, run.attempt)
        return run.seeds.child("shared-seed", *place).integer()

    def _lent(self) -> Strategy:
        """Return the inner strategy, which sees the round as this one does."""
        inner = self.inner
        inner.run, inner.current_arrays = self.run, self.current_arrays
        inner.sampling_seeds = self.sampling_seeds
        return inner


def check_can_be_wrapped(strategy: object, purpose: str) -> None:
    """Raise ``ConfigError`` if it is no strategy (but its class), or its clients send no models."""
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"a strategy is needed, got {strategy!r}", hint="wrap an object: FedAvg(), not FedAvg"
        )
    if isinstance(strategy, Wrapper) and strategy.replies_are:
        raise ConfigError(
            f"the clients of {type(strategy).__name__} send {strategy.replies_are}, which cannot "
            f"be {purpose}",
            hint="leave one of the two out, or try them the other way round",
        )
