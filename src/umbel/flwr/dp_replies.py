"""Clipped replies for a strategy that aggregates as it likes, and noise on what comes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from umbel.base import RejectedReply, StateError
from umbel.flwr.dp_around import NoiseAround, clipped_model
from umbel.flwr.dp_norms import KEY_NORM_BIT
from umbel.privacy import AdaptiveBound
from umbel.records import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Grid, Strategy
from umbel.strategies import WITHIN, Wrapper
from umbel.updates import Aggregator, Arrays, Collect

_STATE = "dp-clipping"


class ClippedReplies(Collect):
    """Keeps all replies, clipped; each weighs the same.

    Parameters
    ----------
    model : ArrayRecord
        The model that was sent; it does not travel to the workers, which have it.
    record : str
        The name of its record in messages.
    bound : float
        On the norm of an update.
    weighted_by : str
        The metric that weighs a reply.
    told : bool
        Whether a reply tells itself that it was clipped.
    """

    def __init__(
        self, model: ArrayRecord, record: str, bound: float, weighted_by: str, *, told: bool
    ) -> None:
        self.record = record
        self.bound = bound
        self.weighted_by = weighted_by
        self.told = told
        self._model: Arrays = model.views()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": {}}

    def answering(self, sent: RecordDict) -> None:
        self._model = sent.array_records[self.record].views()

    def add(self, acc: list[RecordDict], content: RecordDict) -> list[RecordDict]:
        kept, within = RecordDict(), True
        for name, record in content.items():
            if isinstance(record, ArrayRecord):
                arrays, fits = clipped_model(self._model, record.lent(), self.bound)
                kept[name] = ArrayRecord({k: Array(v.copy()) for k, v in arrays.items()})
                within = within and fits
            else:
                kept[name] = record.copy()
        for metrics in kept.metric_records.values():
            if self.weighted_by in metrics:
                metrics[self.weighted_by] = 1
        if self.told:
            within = not _told(kept)
        kept[WITHIN] = MetricRecord({WITHIN: int(within)})
        acc.append(kept)
        return acc


def _told(content: RecordDict) -> bool:
    """Take what a reply tells out of it: the strategy may release its metrics."""
    for metrics in content.metric_records.values():
        if KEY_NORM_BIT in metrics:
            return bool(metrics.pop(KEY_NORM_BIT))
    raise RejectedReply(
        f"it does not tell {KEY_NORM_BIT!r}: whether its update was clipped",
        hint="give the client app mods=[adaptiveclipping_mod]",
    )


class AroundStrategy(Wrapper):
    """Hands a strategy the clipped replies of a round, and adds noise to its model.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped; it may override anything.
    around : NoiseAround
        The bound and the noise.
    told : bool
        Whether clients that clip to a bound that adapts tell if they had to.
    """

    not_overridden: ClassVar[tuple[str, ...]] = ()

    def __init__(self, strategy: Strategy, around: NoiseAround, *, told: bool) -> None:
        super().__init__(strategy, "clipped")
        self.around = around
        self.told = told and isinstance(around.clipping, AdaptiveBound)
        self._asked: list[Message] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._asked = list(super().configure_train(server_round, arrays, config, grid))
        self.around.cohort = len(self._asked) or self.around.cohort
        return self._asked

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        weighted_by = str(getattr(self.inner, "weighted_by_key", "num-examples"))
        return ClippedReplies(
            self.current_arrays,
            self.arrayrecord_key,
            self.around.bound,
            weighted_by,
            told=self.told,
        )

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        run = self.run
        if run is None:
            raise StateError("a model is to be noised outside of a run")
        within = sum(int(content.pop(WITHIN)[WITHIN]) for content in value)
        failed = {failure.node_id for failure in run.phase_failures}
        answered = [m for m in self._asked if m.metadata.dst_node_id not in failed]
        replies = [
            Message(content, reply_to=asked) for content, asked in zip(value, answered, strict=True)
        ]
        arrays, metrics = self._lent().aggregate_train(server_round, replies)
        if arrays is None:
            return None, metrics
        noised = self.around.noised(run, server_round, arrays, within, len(value))
        return noised, metrics

    def state_dict(self) -> RecordDict:
        state = super().state_dict()
        if isinstance(self.around.clipping, AdaptiveBound):
            state[_STATE] = MetricRecord({"bound": self.around.bound})
        return state

    def load_state_dict(self, state: RecordDict) -> None:
        inner, clipping = RecordDict(state), self.around.clipping
        if isinstance(clipping, AdaptiveBound) and _STATE in inner:
            bound = inner.metric_records.pop(_STATE)["bound"]
            self.around.clipping = replace(clipping, bound=float(bound))  # type: ignore[arg-type]
        super().load_state_dict(inner)
