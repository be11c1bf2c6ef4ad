"""Flower's four wrappers for differential privacy, in the Message API.

Where the strategy inside averages, they are ``umbel.strategies.with_central_dp``: replies are
clipped where they are folded, each counts the same, and the ledger lies in the log of the run. Any
other strategy runs too, on clipped replies; but no epsilon can be given for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from logging import INFO, WARNING
from typing import Any, ClassVar

from umbel.base import ConfigError, PrivacyBudgetExhausted, RejectedReply
from umbel.flwr.accounting import (
    GaussianPrivacyEvent,
    PrivacyAccountant,
    PrivacySpent,
    SamplingMethod,
)
from umbel.flwr.dp_around import DELTA, AdaptiveArguments, NoiseAround, bound_of
from umbel.flwr.dp_norms import CLIENTS_DISCREPANCY_WARNING, KEY_CLIPPING_NORM, KEY_NORM_BIT
from umbel.flwr.dp_replies import AroundStrategy
from umbel.flwr.logs import log
from umbel.privacy import AdaptiveBound, GaussianEvent, Poisson
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Grid, Run, Strategy
from umbel.strategies import WITHIN, CentralDP, ClippedMean, Clipping, Wrapper
from umbel.updates import Arrays, Mean


class ToldByClients(ClippedMean):
    """The mean of clipped updates; the clients tell which of them had to be clipped."""

    def _read(self, content: RecordDict) -> tuple[Arrays, MetricRecord]:
        update, metrics = super()._read(content)
        told = metrics.pop(KEY_NORM_BIT, None)
        if told is None:
            raise RejectedReply(
                f"it does not tell {KEY_NORM_BIT!r}: whether its update was clipped",
                hint="give the client app mods=[adaptiveclipping_mod]",
            )
        metrics[WITHIN] = float(not told)
        return update, metrics


class Accounted(CentralDP):
    """A strategy that averages, made private; it may evaluate as it likes.

    What is divided by, and what the noise is for, is the number of clients asked: how many answered
    does not show.
    """

    not_overridden: ClassVar[tuple[str, ...]] = ("aggregate_train",)
    ledger: PrivacyAccountant | None = None
    """An accountant of the app's, which is told of all releases and says when to stop."""
    _told: tuple[Run | None, int] = (None, 0)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if messages and not isinstance(self._sampling, Poisson):
            self.cohort = len(messages)
        ledger = self.ledger
        if ledger is None or not messages:
            return messages
        self._tell(grid.run, ledger)
        event = self._asked(ledger)
        if ledger.config.max_epsilon is not None and ledger.would_exceed(event):
            spent = ledger.get_privacy_spent()
            raise PrivacyBudgetExhausted(
                f"one more round would exceed max_epsilon={ledger.config.max_epsilon:g}; spent "
                f"so far is {spent.epsilon:.4g} at a delta of {spent.delta:g}",
                round=server_round,
            )
        return messages

    def _release(self, server_round: int, mean: Mean, model: ArrayRecord) -> Mean:
        released = super()._release(server_round, mean, model)
        if self.ledger is not None and self.run is not None:
            self._tell(self.run, self.ledger)
        return released

    def _tell(self, run: Run, ledger: PrivacyAccountant) -> None:
        """Tell the accountant what the run has released and it has not heard of."""
        releases = self._ledger_of(run).entries
        if self._told[0] is not run:
            # What was released before the run was cut off, an accountant made anew does not know.
            self._told = (run, 0 if run.resume else len(releases))
        for entry in releases[self._told[1] :]:
            if isinstance(entry.event, GaussianEvent):
                noise_multiplier = entry.event.noise_multiplier
                ledger.compose(replace(self._asked(ledger), noise_multiplier=noise_multiplier))
            spent = ledger.get_privacy_spent()
            log(INFO, "privacy spent: epsilon %.4g, delta %g", spent.epsilon, spent.delta)
        self._told = (run, len(releases))

    def _asked(self, ledger: PrivacyAccountant) -> GaussianPrivacyEvent:
        population = ledger.config.population_size
        return GaussianPrivacyEvent(self.noise_multiplier, min(self.cohort, population), population)


class ClippedByClients(Accounted):
    """The same, where clients clip."""

    clipped_at: ClassVar[str] = "client"


class TellingClients(ClippedByClients):
    """The same, where clients clip to a bound that adapts, and tell if they had to."""

    folds: ClassVar[type[ClippedMean]] = ToldByClients


def accounted_kind(at_client: bool, clipping: Clipping) -> type[Accounted]:
    """Return the wrapper for who clips, and to what."""
    if not at_client:
        return Accounted
    return TellingClients if isinstance(clipping, AdaptiveBound) else ClippedByClients


class Private(Wrapper):
    """What the four wrappers share.

    Attributes
    ----------
    strategy : Strategy
        What is wrapped.
    noise_multiplier : float
        The noise's standard deviation over the bound, count of clients included.
    num_sampled_clients : int
        How many clients are expected in a round.
    """

    not_overridden: ClassVar[tuple[str, ...]] = ()
    at_client: ClassVar[bool]

    def __init__(
        self,
        strategy: Strategy,
        noise_multiplier: float,
        clipping: float | AdaptiveBound,
        num_sampled_clients: int,
        accountant: PrivacyAccountant | None = None,
    ) -> None:
        if noise_multiplier < 0:
            raise ConfigError(f"noise_multiplier is not negative, got {noise_multiplier}")
        inner = self._accounted(
            strategy, noise_multiplier, clipping, num_sampled_clients, accountant
        )
        if inner is None and accountant is not None:
            raise ConfigError(
                f"{type(strategy).__name__} does not average what clients send, or there is no "
                "noise: nothing can be accounted for",
                hint="wrap FedAvg or one of its kin with a noise_multiplier above 0, or leave the "
                "accountant out",
            )
        if inner is None:
            name = type(strategy).__name__
            around = NoiseAround(name, noise_multiplier, clipping, num_sampled_clients)
            inner = AroundStrategy(strategy, around, told=self.at_client)
        super().__init__(inner, "made private")
        self.strategy = strategy
        self.noise_multiplier = noise_multiplier
        self.num_sampled_clients = num_sampled_clients
        self.accountant = accountant
        self._has_warned = False

    def _accounted(
        self,
        strategy: Strategy,
        noise_multiplier: float,
        clipping: float | AdaptiveBound,
        cohort: int,
        accountant: PrivacyAccountant | None,
    ) -> Wrapper | None:
        """Return the wrapper with a ledger, if the strategy averages."""
        overrides = type(strategy).aggregate_train is not Strategy.aggregate_train
        if not noise_multiplier or overrides or strategy.looks_at_clients:
            return None
        if accountant is not None and (
            accountant.config.sampling_method is not SamplingMethod.NO_AMPLIFICATION
        ):
            raise ConfigError(
                "no chance in who takes part is counted on here",
                hint="sampling_method=SamplingMethod.NO_AMPLIFICATION; or take "
                "umbel.strategies.with_central_dp, which watches that the sampler is kept to",
            )
        made = accounted_kind(self.at_client, clipping)(
            strategy,
            noise_multiplier=noise_multiplier,
            clipping=clipping,
            cohort=cohort,
            delta=DELTA if accountant is None else accountant.config.target_delta,
            accountant=None if accountant is None else "rdp",
            release_metrics=True,
        )
        made.ledger = accountant
        try:
            made.train_aggregator(1)
        except ConfigError:
            return None
        return made

    @property
    def clipping_norm(self) -> float:
        """The bound on an update in this round."""
        inner: Any = self.inner
        clipping = inner.around.clipping if isinstance(inner, AroundStrategy) else inner.clipping
        return bound_of(clipping)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        if self.at_client:
            config[KEY_CLIPPING_NORM] = self.clipping_norm
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if messages and len(messages) != self.num_sampled_clients and not self._has_warned:
            self._has_warned = True
            log(WARNING, CLIENTS_DISCREPANCY_WARNING, len(messages), self.num_sampled_clients)
        return messages

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        strategy = self.strategy
        strategy.run, strategy.current_arrays = self.run, self.current_arrays
        return strategy.aggregate_evaluate(server_round, replies)

    def privacy_spent(self) -> PrivacySpent | None:
        """Return what the accountant has counted, if there is one."""
        return None if self.accountant is None else self.accountant.get_privacy_spent()


class _Fixed(Private):
    def __init__(
        self,
        strategy: Strategy,
        noise_multiplier: float,
        clipping_norm: float,
        num_sampled_clients: int,
        *,
        accountant: PrivacyAccountant | None = None,
    ) -> None:
        super().__init__(strategy, noise_multiplier, clipping_norm, num_sampled_clients, accountant)


class _Adaptive(AdaptiveArguments, Private):
    pass


class DifferentialPrivacyServerSideFixedClipping(_Fixed):
    """Noise for the clients' sum, whose updates the server clips.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped; see the module for what it may be.
    noise_multiplier : float
        The noise's standard deviation over the bound; zero for clipping alone.
    clipping_norm : float
        The bound on the L2 norm of an update.
    num_sampled_clients : int
        How many clients are expected in a round.
    accountant : PrivacyAccountant, optional
        Is told of all releases, and says when the budget is spent: the run ends in good order
        before that round.

    Raises
    ------
    ConfigError
        A parameter is out of its range, or an accountant is given for what it cannot count.
    """

    at_client = False


class DifferentialPrivacyClientSideFixedClipping(_Fixed):
    """Noise for the clients' sum, whose updates the clients clip with ``fixedclipping_mod``.

    The server clips once more, and so relies on no client. The parameters are those of
    :class:`DifferentialPrivacyServerSideFixedClipping`.
    """

    at_client = True


class DifferentialPrivacyServerSideAdaptiveClipping(_Adaptive):
    """Noise for the clients' sum, whose updates the server clips to a bound that adapts.

    After Andrew et al. 2021, arXiv:1905.03871. In Flower the bound goes the other way: to zero when
    all updates are clipped.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    noise_multiplier : float
        The noise's standard deviation over the bound, the noise in the count of clipped updates
        included; zero for none.
    num_sampled_clients : int
        How many clients are expected in a round.
    initial_clipping_norm : float, default=0.1
        The bound to begin with.
    target_clipped_quantile : float, default=0.5
        The part of the updates that shall be clipped.
    clip_norm_lr : float, default=0.2
        How fast the bound follows.
    clipped_count_stddev : float, optional
        The noise in the count; a twentieth of ``num_sampled_clients`` by default.

    Raises
    ------
    ConfigError
        A parameter is out of its range, or the noise in the count is too small for
        ``noise_multiplier``.
    """

    at_client = False


class DifferentialPrivacyClientSideAdaptiveClipping(_Adaptive):
    """Noise for the clients' sum, whose updates ``adaptiveclipping_mod`` clips at the clients.

    Each tells whether its update was clipped. The server clips once more. The parameters are those
    of :class:`DifferentialPrivacyServerSideAdaptiveClipping`.
    """

    at_client = True
