"""Wrapper for updates to which the clients add noise before anybody sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from umbel.base import RejectedReply
from umbel.clientapp import DP_RECORD, LocalNoise
from umbel.privacy import (
    AccountantName,
    GaussianEvent,
    NoAmplification,
    PrivacyLedger,
    PrivacyStatement,
)
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Grid, LedgerOfStart, Run, RunLedger, Strategy, cut_off
from umbel.strategies.clippedmean import (
    WITHIN,
    ClippedMean,
    check_shapes,
    clipping_in_place_of,
    moved,
)
from umbel.strategies.wrapper import Wrapper
from umbel.updates import Aggregator, Arrays, Mean, WeightedMean

_STATE = "dp-participations"
_NOT_HIDDEN = "who takes part, or fails and what it says then"


class NoisedUpdates(ClippedMean):
    """The mean of updates that the clients have clipped and noised; nothing is done to them."""

    noise: LocalNoise

    def answering(self, sent: RecordDict) -> None:
        """Do nothing: what comes are updates already."""

    def _update(self, arrays: Arrays, content: RecordDict) -> tuple[Arrays, bool]:
        told = content.config_records.get(DP_RECORD)
        if told is None or dict(told) != dict(self.noise.in_words()):
            raise RejectedReply(
                "it was not clipped and noised as the strategy expects"
                + (f", but with {dict(told)}" if told is not None else ""),
                hint="give local_dp_mod and with_local_dp the same numbers",
            )
        check_shapes(self.shapes, arrays)
        update = {key: np.asarray(arrays[key], dtype) for key, dtype in self.moving.items()}
        for key, value in update.items():
            if not np.isfinite(value).all():
                raise RejectedReply("its update holds NaN or infinity", key=key)
        return update, True


class LocalDP(Wrapper):
    """A strategy that trusts nobody with an update; :func:`with_local_dp` makes it.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    noise : LocalNoise
        The clients'.
    delta, epsilon_budget, accountant, release_metrics
        See :func:`with_local_dp`.
    """

    replies_are: ClassVar[str] = "noised updates"

    def __init__(
        self,
        strategy: Strategy,
        noise: LocalNoise,
        *,
        delta: float,
        epsilon_budget: float | None = None,
        accountant: AccountantName = "pld",
        release_metrics: bool = False,
    ) -> None:
        super().__init__(strategy, "noised by the clients")
        PrivacyLedger(epsilon_budget, delta, accountant=accountant)  # raises
        self.noise = noise
        self.delta = delta
        self.epsilon_budget = epsilon_budget
        self.accountant: AccountantName = accountant
        self.release_metrics = release_metrics
        self._took_part: Counter[int] = Counter()
        self._cut_off: dict[int, list[tuple[int, ...]]] = {}
        self._ledgers = LedgerOfStart()
        self._ledger: RunLedger | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, arrays, config, grid))
        ledger = self._ledger_of(grid.run)
        before, took_part = max(self._took_part.values(), default=1), self._took_part.copy()
        nodes = tuple(message.metadata.dst_node_id for message in messages)
        # The same messages again have the same replies; those of other ones were replies more.
        for asked in self._cut_off.pop(server_round, []):
            if asked != nodes:
                took_part.update(asked)
        took_part.update(nodes)
        if messages:
            # Each client pays for its own replies; the statement is about the one that pays most.
            most, event = max(took_part.values()), GaussianEvent(self.noise.noise_multiplier)
            describe = partial(self._statement, grid.run)
            for number in range(before, most + 1):
                ledger.spend(("replies", grid.run.start, number), event, describe)
        self._took_part = took_part
        for message in messages:
            message.content[DP_RECORD] = self.noise.in_words()
        return messages

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        folds = super().train_aggregator(server_round)

        def make(like: WeightedMean) -> NoisedUpdates:
            made = NoisedUpdates(
                self.current_arrays,
                self.arrayrecord_key,
                like,
                self.noise.clipping,
                _move,
                keep_metrics=self.release_metrics,
            )
            made.noise = self.noise
            return made

        return clipping_in_place_of(folds, make, keep_metrics=self.release_metrics)

    def summary(self) -> str:
        noise = self.noise
        return (
            f"{self.inner.summary()}, updates clipped to {noise.clipping:g} and noised by the "
            f"clients, noise multiplier {noise.noise_multiplier:g}"
        )

    def state_dict(self) -> RecordDict:
        state = super().state_dict()
        if self._took_part:
            nodes = sorted(self._took_part)
            counts = [self._took_part[node] for node in nodes]
            state[_STATE] = ArrayRecord(
                {"nodes": np.array(nodes, np.uint64), "counts": np.array(counts)}
            )
        return state

    def load_state_dict(self, state: RecordDict) -> None:
        inner = RecordDict(state)
        known = inner.array_records.get(_STATE)
        self._took_part = Counter()
        if known is not None:
            views = known.views()
            pairs = zip(views["nodes"].tolist(), views["counts"].tolist(), strict=True)
            self._took_part.update(dict(pairs))
            del inner[_STATE]
        super().load_state_dict(inner)

    def _ledger_of(self, run: Run) -> RunLedger:
        ledger = self._ledgers.of(
            run,
            epsilon=self.epsilon_budget,
            delta=self.delta,
            accountant=self.accountant,
            adjacency="replace-one",
        )
        if ledger is not self._ledger:
            if self._ledger is not None:
                self._took_part = Counter()
            self._cut_off = cut_off(run)
            self._ledger = ledger
        return ledger

    def _statement(self, run: Run, epsilon: float) -> PrivacyStatement:
        """Say what the run promises."""
        noise = self.noise
        metrics = ("the clients' training metrics",) if self.release_metrics else ()
        return PrivacyStatement(
            epsilon=epsilon,
            delta=self.delta,
            unit="client",
            adjacency="replace-one",
            sampling=NoAmplification(),
            mechanism=f"Gaussian, noise multiplier {noise.noise_multiplier:g}, updates clipped by "
            f"the client to a norm of {noise.clipping:g}; for the client that replied most often",
            noise_added_at="client",
            accountant=self.accountant,
            noise_randomness="seeded: simulation only" if run.simulated else "cryptographic",
            covers=("each client's updates, from everybody, the server among them",),
            not_covered=(*metrics, "the clients' evaluation metrics", _NOT_HIDDEN),
        )


def _move(mean: Mean, model: ArrayRecord) -> Mean:
    """Return the model moved by the mean of the updates; the clients have done all the rest."""
    update = {} if mean.arrays is None else mean.arrays.views()
    metrics = MetricRecord({key: value for key, value in mean.metrics.items() if key != WITHIN})
    return Mean(moved(model, update), metrics, mean.weight, mean.count)


def with_local_dp(
    strategy: Strategy,
    *,
    clipping: float,
    delta: float,
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    epsilon_budget: float | None = None,
    accountant: AccountantName = "pld",
    release_metrics: bool = False,
) -> LocalDP:
    """Return a strategy that does the same with updates that each client has noised.

    The client app has ``mods=[umbel.clientapp.local_dp_mod(...)]`` with the same numbers. Nobody is
    trusted: the server sees noised updates alone. The price is noise in every one of them, so that
    it takes very many clients to learn anything. Updates count the same, and their mean is over
    those that came.

    Parameters
    ----------
    strategy : Strategy
        What to wrap: FedAvg or another one that folds replies into a weighted mean. It is used from
        here on through the wrapper alone.
    clipping : float
        The bound on the L2 norm of an update.
    delta : float
        The chance that the promise fails; for ``epsilon`` and for the budget alike.
    epsilon : float, optional
        What one reply costs; the noise follows.
    noise_multiplier : float, optional
        The noise's standard deviation over the bound, in place of ``epsilon``.
    epsilon_budget : float, optional
        The run ends in good order before a round in which a client would exceed it, all its replies
        together.
    accountant : {"pld", "rdp"}
        How to count a client's replies.
    release_metrics : bool, default=False
        Whether the clients' training metrics are averaged, if the mod replies with them.

    Raises
    ------
    ConfigError
        A number is out of its range, or the strategy does not fold replies into a weighted mean.

    Examples
    --------
    >>> from umbel.strategies import FedAvg
    >>> strategy = with_local_dp(FedAvg(), clipping=1.0, epsilon=4.0, delta=1e-6)
    """
    noise = LocalNoise.of(
        clipping=clipping, epsilon=epsilon, delta=delta, noise_multiplier=noise_multiplier
    )
    return LocalDP(
        strategy,
        noise,
        delta=delta,
        epsilon_budget=epsilon_budget,
        accountant=accountant,
        release_metrics=release_metrics,
    )
