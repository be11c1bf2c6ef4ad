"""Wrapper that gives a strategy differential privacy, with noise that the clients add together."""

from __future__ import annotations

from functools import partial
from typing import Any

from umbel.base import ConfigError
from umbel.privacy import (
    Mechanism,
    NoAmplification,
    NoiseShare,
    PerLayer,
    PrivacyLedger,
    PrivacyStatement,
    whole,
)
from umbel.records import ArrayRecord, MetricRecord
from umbel.secagg import Plan, SecAggParameters
from umbel.serverapp import LedgerOfStart, Run, RunLedger, Strategy
from umbel.strategies.clippedmean import moved
from umbel.strategies.secagg import (
    STAGE_TIMEOUT_S,
    Degree,
    Neighbours,
    SecurelyAggregated,
)
from umbel.strategies.summable import summed
from umbel.updates import Mean, NDArray, is_whole

_BITS = 32


class DistributedDP(SecurelyAggregated):
    """A strategy whose clients add noise for each other; :func:`with_distributed_dp` makes it.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    neighbours, minimum_cohort, stage_timeout_s
        See :class:`SecurelyAggregated`.
    noise_multiplier, clipping, cohort, delta, epsilon_budget, mechanism, colluders
        See :func:`with_distributed_dp`.
    """

    def __init__(
        self,
        strategy: Strategy,
        neighbours: Neighbours,
        minimum_cohort: int,
        stage_timeout_s: float,
        *,
        noise_multiplier: float,
        clipping: float | PerLayer,
        cohort: int,
        delta: float,
        epsilon_budget: float | None,
        mechanism: Mechanism,
        colluders: int,
    ) -> None:
        _, personal = summed(strategy)  # raises if there is no mean
        record = str(getattr(strategy, "arrayrecord_key", "arrays"))
        plan = Plan({"*": 1.0}, 1.0, bits=_BITS, weighted_by="", record=record, personal=personal)
        super().__init__(strategy, plan, neighbours, minimum_cohort, stage_timeout_s)
        if strategy.looks_at_clients:
            raise ConfigError(
                f"{type(strategy).__name__} asks clients about their data before it chooses among "
                "them, so that one client's data change whose updates are summed",
                hint="choose nodes without a look at their data",
            )
        PrivacyLedger(epsilon_budget, delta, accountant="rdp")  # raises
        self.noise_multiplier = noise_multiplier
        self.clipping = clipping
        self.cohort = whole(cohort, "cohort")
        self.delta = delta
        self.epsilon_budget = epsilon_budget
        self.mechanism: Mechanism = mechanism
        self.colluders = whole(colluders, "colluders", 0)
        if self.colluders >= self.cohort:
            raise ConfigError(
                f"{colluders} colluders leave nobody to protect in a cohort of {cohort}",
                hint="expect fewer colluders, or a larger cohort",
            )
        self._share = self._fitted(1, cohort)  # raises
        self._dimension = 0
        self._ledgers = LedgerOfStart()

    def prepared(
        self, run: Run, cohort: int, model: ArrayRecord
    ) -> tuple[Plan, SecAggParameters, int]:
        self._dimension = sum(array.size for array in self._moving(model).values())
        parameters = self.neighbours.parameters(cohort, self._dimension, _BITS)
        least = max(parameters.quorum(cohort), self.minimum_cohort, self.colluders + 1)
        # Those that work with the server know their own noise, so it counts for nothing.
        self._share = self._fitted(least - self.colluders, cohort)
        self._ledger_of(run).check(self._share.event(self._dimension, least - self.colluders))
        noise = self._share.to_text()
        return Plan(**{**vars(self.plan), "noise": noise}), parameters, least

    def finish_train(
        self, server_round: int, value: Any
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        run = self.begun().run
        # Before the sum is opened: whoever opens it has it, whatever becomes of the model.
        event = self._share.event(self._dimension, value.count - self.colluders)
        # A session is opened for one set of clients: asked again for the same, it is the same sum.
        key = ("sum", run.start, server_round, run.attempt, value.count)
        self._ledger_of(run).spend(key, event, partial(self._statement, run))
        return super().finish_train(server_round, value)

    def mean_of(self, total: NDArray, count: int, model: ArrayRecord) -> tuple[Mean, float]:
        numbers, at = total.view(f"int{_BITS}"), 0
        factor = 1 / (self._share.scale * self.cohort)
        step = {}
        for key, array in self._moving(model).items():
            stop = at + array.size
            step[key] = (numbers[at:stop] * factor).reshape(array.shape)
            at = stop
        mean = Mean(moved(model, step), MetricRecord(), float(self.cohort), count)
        return mean, count * factor

    def summary(self) -> str:
        return (
            f"{super().summary()}, updates clipped to {self._share.bound:g} and noised by the "
            f"clients together ({self.mechanism}, noise multiplier {self.noise_multiplier:g})"
        )

    def _moving(self, model: ArrayRecord) -> dict[str, NDArray]:
        """Return the arrays that clients change and share."""
        shared = self.plan.shared(model.views())
        return {key: value for key, value in shared.items() if not is_whole(value.dtype)}

    def _fitted(self, shares: int, cohort: int) -> NoiseShare:
        return NoiseShare.fitting(
            self.mechanism,
            self.clipping,
            noise_multiplier=self.noise_multiplier,
            shares=shares,
            cohort=cohort,
            bits=_BITS,
        )

    def _ledger_of(self, run: Run) -> RunLedger:
        return self._ledgers.of(
            run,
            epsilon=self.epsilon_budget,
            delta=self.delta,
            accountant="rdp",
            adjacency="zero-out",
        )

    def _statement(self, run: Run, epsilon: float) -> PrivacyStatement:
        """Say what the run promises."""
        return PrivacyStatement(
            epsilon=epsilon,
            delta=self.delta,
            unit="client",
            adjacency="zero-out",
            # The server sees who takes part.
            sampling=NoAmplification(),
            mechanism=f"{self.mechanism} noise under secure aggregation, noise multiplier "
            f"{self.noise_multiplier:g} at least, updates clipped by the clients to a norm of "
            f"{self._share.bound:g}, each with weight 1; also against the server"
            + (f" and {self.colluders} clients that work with it" if self.colluders else ""),
            noise_added_at="clients, a share at each",
            accountant="rdp",
            noise_randomness="seeded: simulation only" if run.simulated else "cryptographic",
            covers=("the sums that the server opens", "the global models of all rounds"),
            not_covered=("the clients' evaluation metrics", "who took part and who failed"),
        )


def with_distributed_dp(
    strategy: Strategy,
    *,
    noise_multiplier: float,
    clipping: float | PerLayer,
    cohort: int,
    delta: float,
    epsilon_budget: float | None = None,
    mechanism: Mechanism = "skellam",
    colluders: int = 0,
    threshold: int | float | None = None,
    degree: Degree = None,
    minimum_cohort: int = 3,
    active: bool = True,
    corrupt: float = 0.1,
    dropout: float = 0.1,
    stage_timeout_s: float = STAGE_TIMEOUT_S,
) -> DistributedDP:
    """Return a strategy that does the same with sums that hide what each client had.

    Each client clips its update, rounds it, adds a share of noise and sends it under masks: what
    the server opens has the noise of all, and nobody is trusted with less. The client app has
    ``mods=[umbel.clientapp.secagg_mod()]``; with ``secagg_mod(noise_multiplier=...)`` a client
    asks for the noise. Kairouz, Liu and Steinke 2021, arXiv:2102.06387; Agarwal, Kairouz and Liu
    2021, arXiv:2110.04995.

    Shares are sized so that the noise is enough if as many drop out as the threshold allows; what
    is accounted is the noise of those that stayed. The server knows who takes part, so no chance in
    the sampling is counted on. Whole numbers in a model stay as they are, and training metrics stay
    with the clients.

    Parameters
    ----------
    strategy : Strategy
        What to wrap: FedAvg or another one that folds replies into a weighted mean. It must not
        look at data.
    noise_multiplier : float
        The standard deviation of the noise in a sum over the bound on one client's update.
    clipping : float or PerLayer
        The bound on the L2 norm of an update.
    cohort : int
        How many clients are expected to train in a round; the sum is divided by this number
        whatever comes.
    delta : float
        The chance that the promise fails; well below one over the number of clients.
    epsilon_budget : float, optional
        The run ends in good order before the round that would exceed it.
    mechanism : {"skellam", "discrete-gaussian"}
        The noise. Shares of Skellam noise add up to Skellam noise exactly.
    colluders : int, default=0
        So many clients may tell the server their noise, and the promise still holds.
    threshold, degree, minimum_cohort, active, corrupt, dropout, stage_timeout_s
        See :func:`with_secagg`. A higher threshold needs smaller shares.

    Raises
    ------
    ConfigError
        A parameter is out of its range, or the strategy sees single replies or asks about data.

    Examples
    --------
    >>> from umbel.strategies import FedAvg
    >>> strategy = with_distributed_dp(
    ...     FedAvg(), noise_multiplier=1.0, clipping=0.5, cohort=100, delta=1e-5
    ... )
    >>> strategy.mechanism
    'skellam'
    """
    return DistributedDP(
        strategy,
        Neighbours(threshold, degree, corrupt, dropout, active),
        minimum_cohort,
        stage_timeout_s,
        noise_multiplier=noise_multiplier,
        clipping=clipping,
        cohort=cohort,
        delta=delta,
        epsilon_budget=epsilon_budget,
        mechanism=mechanism,
        colluders=colluders,
    )
