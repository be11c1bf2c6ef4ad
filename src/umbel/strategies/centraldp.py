"""Wrapper that gives a strategy differential privacy, with noise that the server adds."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NotRequired, TypedDict

import numpy as np

from umbel.base import ConfigError, Seeds, StateError
from umbel.privacy import (
    AccountantName,
    AdaptiveBound,
    Event,
    FixedSize,
    GaussianEvent,
    NoAmplification,
    NoiseSource,
    PerLayer,
    Poisson,
    PrivacyLedger,
    PrivacyStatement,
    Randomness,
    Sampling,
    clip,
    natural_adjacency,
    whole,
)
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Grid, LedgerOfStart, Run, RunLedger, Strategy
from umbel.strategies.clippedmean import WITHIN, ClippedMean, clipping_in_place_of, moved
from umbel.strategies.drawing import SameNodes, enforced_sampling
from umbel.strategies.wrapper import Wrapper
from umbel.updates import Aggregator, Arrays, Mean, WeightedMean

Clipping = float | PerLayer | AdaptiveBound
"""A bound on the L2 norm of an update."""

Key = tuple[int, int, str]
"""Names one release: the call of ``start``, the round, and the digest of the sum."""

_STATE = "dp-clipping"


class CentralDPOptions(TypedDict):
    """Keyword arguments of :func:`with_central_dp`, for wrappers that pass them on."""

    noise_multiplier: float
    cohort: int
    delta: float
    epsilon_budget: NotRequired[float | None]
    accountant: NotRequired[AccountantName | None]
    release_metrics: NotRequired[bool]


class CentralDP(Wrapper):
    """A strategy whose models are differentially private; :func:`with_central_dp` makes it.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    noise_multiplier, clipping, cohort, delta, epsilon_budget, accountant, release_metrics
        See :func:`with_central_dp`.
    """

    clipped_at: ClassVar[str] = "server"
    folds: ClassVar[type[ClippedMean]] = ClippedMean

    def __init__(
        self,
        strategy: Strategy,
        *,
        noise_multiplier: float,
        clipping: Clipping,
        cohort: int,
        delta: float,
        epsilon_budget: float | None = None,
        accountant: AccountantName | None = None,
        release_metrics: bool = False,
    ) -> None:
        super().__init__(strategy, "clipped and noised")
        if strategy.looks_at_clients:
            raise ConfigError(
                f"{type(strategy).__name__} asks clients about their data before it chooses among "
                "them, so that one client's data change whose updates are summed",
                hint="choose nodes without a look at their data",
            )
        # These raise if a number is out of its range.
        PrivacyLedger(epsilon_budget, delta, accountant=accountant or "rdp")
        GaussianEvent(noise_multiplier)
        if not isinstance(clipping, AdaptiveBound):
            clip({}, clipping)
        self.noise_multiplier = noise_multiplier
        self.clipping = clipping
        self.cohort = whole(cohort, "cohort")
        self.delta = delta
        self.epsilon_budget = epsilon_budget
        self.accountant = accountant
        self.release_metrics = release_metrics
        self._sampling: Sampling = NoAmplification()
        self._noise_of_updates()  # raises if the count of clients leaves nothing for the updates
        self._ledgers = LedgerOfStart()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        run = grid.run
        # The run's seed is told to others, and who knows the cohorts gains by their chance. Each
        # call of start has cohorts of its own: what is accounted for are independent samples.
        root = run.seeds if run.simulated else Seeds(0).child(run.secret("sampling").hex())
        self.sampling_seeds = root.child("start", run.start)
        same = SameNodes(grid)
        messages = list(super().configure_train(server_round, arrays, config, same))
        self._sampling = self._drawn(messages, same, server_round)
        if messages or isinstance(self._sampling, Poisson):
            self._check(run)
        return messages

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        folds = super().train_aggregator(server_round)
        release = partial(self._release, server_round)

        def make(like: WeightedMean) -> ClippedMean:
            return self.folds(
                self.current_arrays,
                self.arrayrecord_key,
                like,
                self._bound(),
                release,
                keep_metrics=self.release_metrics,
            )

        return clipping_in_place_of(folds, make, keep_metrics=self.release_metrics)

    def without_cohort(self, server_round: int) -> tuple[ArrayRecord | None, MetricRecord | None]:
        # By Poisson nobody may be drawn, and that must not show; others leave the phase out.
        if not isinstance(self._sampling, Poisson):
            return None, None
        folds = self.train_aggregator(server_round)
        return self.finish_train(server_round, folds.finish(folds.zero()))

    def summary(self) -> str:
        return (
            f"{self.inner.summary()}, updates clipped by the {self.clipped_at} to "
            f"{self._clipping_text()}, noise multiplier {self.noise_multiplier:g}"
        )

    def state_dict(self) -> RecordDict:
        state = super().state_dict()
        if isinstance(self.clipping, AdaptiveBound):
            state[_STATE] = MetricRecord({"bound": self.clipping.bound})
        return state

    def load_state_dict(self, state: RecordDict) -> None:
        inner = RecordDict(state)
        if isinstance(self.clipping, AdaptiveBound) and _STATE in inner:
            bound = inner.metric_records[_STATE]["bound"]
            self.clipping = replace(self.clipping, bound=float(bound))  # type: ignore[arg-type]
            del inner[_STATE]
        super().load_state_dict(inner)

    def _release(self, server_round: int, mean: Mean, model: ArrayRecord) -> Mean:
        """Spend, add the noise, and return the mean model that others may see."""
        run = self.run
        if run is None:
            raise StateError("a model is to be released outside of a run")
        update = {} if mean.arrays is None else mean.arrays.views()
        adapts = isinstance(self.clipping, AdaptiveBound)  # else clients that clip do not tell it
        part_within = mean.metrics.get(WITHIN, 0.0) if adapts else 0.0
        within = round(float(part_within) * mean.count)  # type: ignore[arg-type]
        secret = run.secret("noise")
        # The noise follows from what it hides: the same sum again, after a crash, is the same
        # release; and another sum has noise of its own, so that no difference takes it away.
        told = (mean.count, within, self.clipping, self.cohort, self.noise_multiplier)
        digest = _digest(secret, update, *told)
        key = (run.start, server_round, digest)
        source = NoiseSource(secret, seeded=run.simulated)
        noise = self._noise(run, source, key, update)
        part = mean.count / self.cohort
        arrays = moved(model, {name: value * part + noise[name] for name, value in update.items()})
        if isinstance(self.clipping, AdaptiveBound):
            sigma = self.clipping.noise_of_count(self.cohort)
            drawn = source.gaussian({"count": np.zeros(())}, sigma, "count", *key)["count"]
            fraction = self.clipping.fraction(within, mean.count, self.cohort, float(drawn))
            self.clipping = self.clipping.after(fraction)
        metrics = MetricRecord({k: v for k, v in mean.metrics.items() if k != WITHIN})
        # How many there were is not told to the strategy inside, whose steps all see.
        return Mean(arrays, metrics, self.cohort, self.cohort)

    def _drawn(self, messages: Sequence[Message], grid: SameNodes, server_round: int) -> Sampling:
        """Return how the nodes were drawn, after checking that they were so."""
        return enforced_sampling(self.inner, messages, grid, server_round)

    def _check(self, run: Run) -> None:
        """Raise ``PrivacyBudgetExhausted`` if the round would exceed the budget."""
        self._ledger_of(run).check(self._event())

    def _noise(self, run: Run, source: NoiseSource, key: Key, update: Arrays) -> Arrays:
        """Spend what the release of a sum costs, and return the noise that hides it."""
        describe = partial(self._statement, source.randomness)
        # Done anew after a crash, a round has the cohort that it had: that is no second chance.
        anew = GaussianEvent(self.noise_multiplier)
        self._ledger_of(run).spend(key, self._event(), describe, anew=anew)
        return source.gaussian(update, self._noise_std(), "update", *key)

    def _event(self) -> Event:
        return GaussianEvent(self.noise_multiplier, self._sampling)

    def _bound(self) -> float | PerLayer:
        return self.clipping.bound if isinstance(self.clipping, AdaptiveBound) else self.clipping

    def _noise_of_updates(self) -> float:
        """Return the multiplier of the noise in the updates; a count of clients takes its part."""
        if isinstance(self.clipping, AdaptiveBound):
            return self.clipping.split(self.noise_multiplier, self.cohort)
        return self.noise_multiplier

    def _noise_std(self) -> float:
        """Return the standard deviation of the noise in each number of the mean update."""
        bound = self._bound()
        sensitivity = bound.sensitivity if isinstance(bound, PerLayer) else bound
        return self._noise_of_updates() * sensitivity / self.cohort

    def _ledger_of(self, run: Run) -> RunLedger:
        """Return the ledger of this call of ``start``, which knows all that the run has spent."""
        return self._ledgers.of(
            run,
            epsilon=self.epsilon_budget,
            delta=self.delta,
            accountant=self._accountant_name(),
            adjacency=natural_adjacency(self._sampling),
        )

    def _accountant_name(self) -> AccountantName:
        # Of samples of a fixed size the tighter one knows nothing.
        return self.accountant or ("rdp" if isinstance(self._sampling, FixedSize) else "pld")

    def _statement(self, randomness: Randomness, epsilon: float) -> PrivacyStatement:
        """Say what the run promises."""
        metrics = ("the clients' training metrics",) if self.release_metrics else ()
        return PrivacyStatement(
            epsilon=epsilon,
            delta=self.delta,
            unit="client",
            adjacency=natural_adjacency(self._sampling),
            sampling=self._sampling,
            mechanism=self._mechanism(),
            noise_added_at="server",
            accountant=self._accountant_name(),
            noise_randomness=randomness,
            covers=("the global models of all rounds",),
            not_covered=(
                *metrics,
                "the clients' evaluation metrics",
                "who takes part or fails, and whether enough reply",
            ),
        )

    def _mechanism(self) -> str:
        return (
            f"Gaussian, noise multiplier {self.noise_multiplier:g}, updates clipped by the "
            f"{self.clipped_at} to {self._clipping_text()}, each with weight 1"
        )

    def _clipping_text(self) -> str:
        match self.clipping:
            case AdaptiveBound(quantile=quantile):
                return f"the quantile {quantile:g} of their norms"
            case PerLayer(bounds=bounds):
                return f"a norm of {self.clipping.sensitivity:g} over {len(bounds)} arrays"
            case bound:
                return f"a norm of {bound:g}"


def _digest(secret: bytes, update: Arrays, *facts: object) -> str:
    """Return what tells two sums apart, and tells nobody who lacks the secret anything of them."""
    told = hmac.new(secret, repr(facts).encode(), hashlib.sha256)
    for name, value in update.items():
        told.update(repr((name, value.dtype.str, value.shape)).encode())
        told.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return told.hexdigest()


def with_central_dp(
    strategy: Strategy,
    *,
    noise_multiplier: float,
    clipping: Clipping,
    cohort: int,
    delta: float,
    epsilon_budget: float | None = None,
    accountant: AccountantName | None = None,
    release_metrics: bool = False,
) -> CentralDP:
    """Return a strategy that does the same with models that hide what each client had.

    DP-FedAvg: McMahan et al. 2018, arXiv:1710.06963, algorithm 1. The server clips the update of
    each client, adds up what is left, each with the weight 1, divides by ``cohort`` and adds
    Gaussian noise once a round, of the standard deviation
    ``noise_multiplier * clipping / cohort``. What the strategy then does with the mean (FedAdam's
    step, say) costs nothing. Who sees the models learns hardly anything of a client; who holds the
    server sees all.

    Whole numbers in a model stay as they are. All other arrays are clipped and noised together, the
    statistics of batch normalisation among them: better train with group normalisation. What a
    client says of its weight is not looked at.

    Parameters
    ----------
    strategy : Strategy
        What to wrap: FedAvg or another one that folds replies into a weighted mean. It is used from
        here on through the wrapper alone. Its sampler says what the accounting may count on: a
        ``PoissonSampler`` or a part of the nodes makes each round cost less, if nobody learns who
        took part; of any other sampler no chance is counted on. It must not look at data.
    noise_multiplier : float
        The noise's standard deviation over the bound on the norm of one client's update.
    clipping : float, PerLayer or AdaptiveBound
        The bound on the L2 norm of an update.
    cohort : int
        How many clients are expected to train in a round. It is divided by this number whatever
        comes, so that the step does not tell how many there were.
    delta : float
        The chance that the promise fails; well below one over the number of clients.
    epsilon_budget : float, optional
        The run ends in good order before the round that would exceed it.
    accountant : {"pld", "rdp"}, optional
        How to count; by default the tightest that has a bound for the sampling.
    release_metrics : bool, default=False
        Whether the mean of the clients' training metrics is told. It is not private.

    Raises
    ------
    ConfigError
        A parameter is out of its range, or nothing is known of what one client does to the outcome
        of the strategy. In a round: the messages do not go to whom the sampler chose.

    Examples
    --------
    >>> from umbel.serverapp import PoissonSampler
    >>> from umbel.strategies import FedAvg
    >>> strategy = with_central_dp(
    ...     FedAvg(train_sampler=PoissonSampler(0.1)),
    ...     noise_multiplier=1.0, clipping=0.5, cohort=100, delta=1e-5, epsilon_budget=8.0)
    """
    return CentralDP(
        strategy,
        noise_multiplier=noise_multiplier,
        clipping=clipping,
        cohort=cohort,
        delta=delta,
        epsilon_budget=epsilon_budget,
        accountant=accountant,
        release_metrics=release_metrics,
    )
