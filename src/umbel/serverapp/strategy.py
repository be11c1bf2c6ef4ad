"""The contract of a strategy: what users override, and the parts that do the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Literal

from umbel.base import ROUND_TIMEOUT_S, ConfigError
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp.grid import Grid, rejected
from umbel.serverapp.result import Result
from umbel.serverapp.run import Run
from umbel.updates import Aggregator, fold

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]
ShouldStop = Callable[[int, Result], bool]
Callback = Callable[[int, Result], None]
OnShortfall = Literal["end", "repeat", "skip"]


class Strategy(ABC):
    """How a federation learns: who takes part, what is sent, how replies become a model.

    Override ``configure_train``, ``aggregate_train``, ``configure_evaluate``,
    ``aggregate_evaluate`` or ``start``. As long as ``aggregate_train`` is not overridden, replies
    are folded by ``train_aggregator`` where they arise and never held together; once it is, it is
    handed all of them. The same goes for evaluation.

    Attributes
    ----------
    current_arrays : ArrayRecord
        The global model at the start of the round; ``start`` sets it.
    run : Run or None
        The run in progress.
    min_completion : int or float
        What makes a phase of a round: so many usable replies, or (a float in (0, 1]) such a part of
        the cohort. At least one reply is always needed.
    on_shortfall : {"end", "repeat", "skip"}
        What a phase below ``min_completion`` leads to: the run ends with ``NotEnoughReplies``, the
        phase is repeated with a new cohort up to ``max_repeats`` times before that, or it is
        skipped and the model stays as it is.
    max_repeats : int
        How often a phase is repeated at most.
    """

    current_arrays: ArrayRecord
    run: Run | None = None
    min_completion: int | float = 1
    on_shortfall: OnShortfall = "end"
    max_repeats: int = 3

    @abstractmethod
    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the messages of this round's training, one a node; none skips training."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the new global model and the cohort's metrics; ``None`` keeps the old model."""
        value = self._fold(self.train_aggregator(server_round), replies)
        return (None, None) if value is None else self.finish_train(server_round, value)

    @abstractmethod
    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the messages of this round's evaluation; none skips it."""

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return the cohort's evaluation metrics."""
        value = self._fold(self.evaluate_aggregator(server_round), replies)
        return None if value is None else self.finish_evaluate(server_round, value)

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        """Return the fold of training replies; needed unless ``aggregate_train`` is overridden."""
        raise self._lacks("train")

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the new global model and metrics from the outcome of ``train_aggregator``."""
        raise self._lacks("train")

    def evaluate_aggregator(self, server_round: int) -> Aggregator[Any]:
        """Return the fold of evaluation replies."""
        raise self._lacks("evaluate")

    def finish_evaluate(self, server_round: int, value: Any) -> MetricRecord | None:
        """Return the metrics from the outcome of ``evaluate_aggregator``."""
        raise self._lacks("evaluate")

    def summary(self) -> str:
        """Return one line that says what this strategy is."""
        return type(self).__name__

    def state_dict(self) -> RecordDict:
        """Return everything that the next round depends on, besides the global model."""
        return RecordDict()

    def load_state_dict(self, state: RecordDict) -> None:
        """Continue, bit for bit, from what ``state_dict`` returned."""
        if len(state):
            raise ConfigError(
                f"{type(self).__name__} keeps no state, and was given {sorted(state)}",
                hint="load it into the kind of strategy that it came from",
            )

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = ROUND_TIMEOUT_S,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
        should_stop: ShouldStop | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> Result:
        """Run the rounds and return what came of them.

        First ``evaluate_fn(0, initial_arrays)``; then in each round: training, evaluation by
        clients, ``evaluate_fn(round, arrays)``, ``callbacks``, ``should_stop``.

        Parameters
        ----------
        grid : Grid
            Where the clients are.
        initial_arrays : ArrayRecord
            The global model to begin with; it is copied.
        num_rounds : int, default=3
            How many rounds to run.
        timeout : float, default=3600
            Seconds that a phase waits for replies.
        train_config, evaluate_config : ConfigRecord, optional
            Sent to the clients with ``"server-round"`` added; never changed.
        evaluate_fn : callable, optional
            ``evaluate_fn(server_round, arrays) -> MetricRecord | None`` on the server.
        should_stop : callable, optional
            ``should_stop(server_round, result) -> bool``, asked after every round.
        callbacks : iterable of callables
            ``callback(server_round, result)``, called after every round.

        Raises
        ------
        NotEnoughNodes
            Fewer nodes are connected than the sampler asks for.
        NotEnoughReplies
            A phase stayed below ``min_completion``, as ``on_shortfall`` has it.
        AggregationError
            Replies do not fit together, or all weights are zero.
        """
        from umbel.serverapp.rounds import RoundLoop

        loop = RoundLoop(self, grid, timeout, train_config, evaluate_config, evaluate_fn)
        return loop.run(initial_arrays, num_rounds, should_stop, tuple(callbacks))

    def _fold(self, aggregator: Aggregator[Any], replies: Iterable[Message]) -> Any:
        at_hand = list(replies)

        def reject(position: int, error: Any) -> None:
            if self.run is None:
                raise error
            self.run.fail(at_hand[position].metadata.src_node_id, rejected(error))

        contents = (reply.content if reply.has_content() else None for reply in at_hand)
        total = fold(aggregator, contents, len(at_hand), reject)
        return None if total is None else aggregator.finish(total)

    def _lacks(self, phase: str) -> ConfigError:
        return ConfigError(
            f"{type(self).__name__} does not say how to aggregate replies of kind {phase!r}",
            hint=f"override aggregate_{phase}, or {phase}_aggregator and finish_{phase}",
        )
