"""The contract of a strategy: what users override, and the parts that do the rest."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from umbel.base import ROUND_TIMEOUT_S, ConfigError, RejectedReply, Seeds
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp.grid import Grid, rejected
from umbel.serverapp.result import Result
from umbel.serverapp.run import Run
from umbel.serverapp.sampling import Sampler
from umbel.updates import Aggregator, fold

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]
"""``evaluate_fn(server_round, arrays)`` evaluates the global model on the server."""

ShouldStop = Callable[[int, Result], bool]
"""``should_stop(server_round, result)`` says whether this round was the last."""

Callback = Callable[[int, Result], None]
"""``callback(server_round, result)`` hears that a round is over."""

OnShortfall = Literal["end", "repeat", "skip"]
"""What too few usable replies lead to."""


class Strategy(ABC):
    """How a federation learns: who takes part, what is sent, how replies become a model.

    Override ``configure_train``, ``aggregate_train``, ``configure_evaluate``,
    ``aggregate_evaluate`` or ``start``. As long as ``aggregate_train`` is not overridden, replies
    are folded by ``train_aggregator`` where they arise and never held together; once it is, it is
    handed all of them. Either way gives the same bits. The same goes for evaluation.
    ``docs/strategies.md`` tells more.

    Attributes
    ----------
    current_arrays : ArrayRecord
        The global model that the phase in progress sends; empty until the first.
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
    require_finite : bool
        Whether a model that holds NaN or infinity ends the run with ``AggregationError``.
    rounds_max : int or None
        How many rounds one call of ``start`` can have; a call for more is refused.
    """

    current_arrays: ArrayRecord = ArrayRecord()
    run: Run | None = None
    min_completion: int | float = 1
    on_shortfall: OnShortfall = "end"
    max_repeats: int = 3
    require_finite: bool = True
    rounds_max: int | None = None
    sampling_seeds: Seeds | None = None
    """What samplers draw from instead of the seeds of the run, where chance is to be a secret."""
    looks_at_clients: bool = False
    """Whether it asks clients about their data before it chooses among them."""

    @abstractmethod
    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the messages of this round's training, one a node; none skips training."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the new global model and the cohort's metrics; ``None`` keeps the old model.

        Parameters
        ----------
        server_round : int
            The round, from 1.
        replies : iterable of Message
            The replies that have come, errors among them, in the order of the cohort. Leave some
            out or change their content before handing them to ``super()``, as you like: a reply's
            place in the sum is that of its node in the cohort.
        """
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

    def without_cohort(self, server_round: int) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the new global model and metrics of a round that nobody was chosen to train in.

        Nothing here. Where that nobody was chosen must not show, there is something to release.
        """
        return None, None

    def sampler(self, message_type: str) -> Sampler | None:
        """Return what chooses the nodes of a phase of a round, if the strategy says so.

        Only what is chosen by the sampler alone counts on its chance: a privacy wrapper watches
        that the messages go to whom it has chosen.
        """
        return None

    def drawing_seeds(self, run: Run, server_round: int, message_type: str) -> Seeds:
        """Return what a sampler draws the nodes of a phase of a round with."""
        root = self.sampling_seeds or run.seeds
        return root.child("round", server_round, message_type, run.attempt, "sample")

    def evaluate_aggregator(self, server_round: int) -> Aggregator[Any]:
        """Return the fold of evaluation replies."""
        raise self._lacks("evaluate")

    def finish_evaluate(self, server_round: int, value: Any) -> MetricRecord | None:
        """Return the metrics from the outcome of ``evaluate_aggregator``."""
        raise self._lacks("evaluate")

    def replies_needed(self, cohort: int) -> int:
        """Return how many usable replies a phase needs, by ``min_completion``."""
        least = self.min_completion
        if isinstance(least, float):
            # Floating-point products overshoot whole numbers: 100 * 0.07 is 7.000000000000001.
            return max(1, math.ceil(least * cohort - 1e-9))
        return max(1, least)

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
        clients, ``evaluate_fn(round, arrays)``, ``callbacks``, ``should_stop``. An exception of
        one of these functions ends the run. In a run that is resumed, rounds that are over are not
        run again; what these functions remember themselves starts anew.

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
            Replies do not fit together, all weights are zero, or the new model holds NaN.
        UsageError
            An argument, or what one of the functions returned, is of another type; or there are
            more rounds than ``rounds_max``.
        """
        from umbel.serverapp.rounds import RoundLoop

        loop = RoundLoop(self, grid, timeout, train_config, evaluate_config, evaluate_fn)
        calls = (callbacks,) if callable(callbacks) else tuple(callbacks)
        loop.begin(initial_arrays)
        del initial_arrays  # they are published; if nobody else holds them, they can go
        return loop.run(num_rounds, should_stop, calls)

    def _fold(self, aggregator: Aggregator[Any], replies: Iterable[Message]) -> Any:
        """Return the outcome over the replies, or ``None`` if too few of them can be used."""
        members = self._members(list(replies))

        def reject(position: int, error: RejectedReply) -> None:
            member = members[position]
            if self.run is None or member is None:
                raise error
            self.run.fail(member.metadata.src_node_id, rejected(error))

        contents = (m.content if m is not None and m.has_content() else None for m in members)
        total = fold(aggregator, contents, len(members), reject)
        return None if total is None or self._fell_short() else aggregator.finish(total)

    def _fell_short(self) -> bool:
        """Whether too few usable replies came; those that an override left out count as usable."""
        if self.run is None or not self.run.cohort:
            return False
        cohort, failed = len(self.run.cohort), len(self.run.phase_failures)
        return cohort - failed < self.replies_needed(cohort)

    def _members(self, replies: Sequence[Message]) -> Sequence[Message | None]:
        """Return a place for each member of the cohort, so that sums have the same brackets.

        Replies that are not those of the phase in progress are taken in their own order.
        """
        cohort = () if self.run is None else self.run.cohort
        by_node = {reply.metadata.src_node_id: reply for reply in replies}
        places = set(cohort)
        if len(by_node) < len(replies) or len(places) < len(cohort) or by_node.keys() - places:
            return replies
        return [by_node.get(node) for node in cohort]

    def _lacks(self, phase: str) -> ConfigError:
        return ConfigError(
            f"{type(self).__name__} does not say how to aggregate replies of kind {phase!r}",
            hint=f"override aggregate_{phase}, or {phase}_aggregator and finish_{phase}",
        )
