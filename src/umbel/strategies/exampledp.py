"""Wrapper that counts what clients' private training costs their single examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from umbel.base import ConfigError, content_hash
from umbel.clientapp import DP_RECORD, check_trained_as_asked
from umbel.privacy import (
    AccountantName,
    GaussianEvent,
    Poisson,
    PrivacyLedger,
    PrivacyStatement,
    positive,
    whole,
)
from umbel.records import ArrayRecord, ConfigRecord, Message, RecordDict
from umbel.serverapp import Grid, LedgerOfStart, Run, RunLedger, Strategy
from umbel.strategies.wrapper import Wrapper
from umbel.updates import Aggregator, Mapped


@dataclass(frozen=True)
class TrainedAsAsked:
    """Lets those replies pass whose clients say that they trained by the numbers they were sent.

    Parameters
    ----------
    asked : ConfigRecord
        The numbers.
    """

    asked: ConfigRecord

    def __call__(self, content: RecordDict) -> RecordDict:
        check_trained_as_asked(self.asked, content)
        return content


class ExampleDP(Wrapper):
    """A strategy whose clients train by DP-SGD; :func:`with_example_dp` makes it.

    Parameters
    ----------
    strategy : Strategy
        What is wrapped.
    noise_multiplier, sampling_rate, steps, max_norm, delta, epsilon_budget, accountant
        See :func:`with_example_dp`.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        noise_multiplier: float,
        sampling_rate: float,
        steps: int,
        max_norm: float,
        delta: float,
        epsilon_budget: float | None = None,
        accountant: AccountantName = "pld",
    ) -> None:
        super().__init__(strategy, "looked at and counted")
        if isinstance(strategy, ExampleDP):
            raise ConfigError("the examples are counted already", hint="wrap the strategy once")
        PrivacyLedger(epsilon_budget, delta, accountant=accountant)  # raises
        self.event = GaussianEvent(
            positive(noise_multiplier, "noise_multiplier"), Poisson(sampling_rate)
        )
        self.steps = whole(steps, "steps")
        self.max_norm = positive(max_norm, "max_norm")
        self.delta = delta
        self.epsilon_budget = epsilon_budget
        self.accountant: AccountantName = accountant
        self._ledgers = LedgerOfStart()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        run, ledger = grid.run, self._ledger_of(grid.run)
        ledger.check(self.event, self.steps)
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if messages:
            # The clients release what they train, so it is spent before they are asked to.
            # The same messages again, after a crash, have the same replies; others have more.
            nodes = repr([message.metadata.dst_node_id for message in messages]).encode()
            key = ("examples", run.start, server_round, run.attempt, content_hash([nodes]))
            ledger.spend(key, self.event, partial(self._statement, run), self.steps)
        asked = self._asked()
        for message in messages:
            message.content[DP_RECORD] = asked
        return messages

    def train_aggregator(self, server_round: int) -> Aggregator[Any]:
        return Mapped(super().train_aggregator(server_round), TrainedAsAsked(self._asked()))

    def summary(self) -> str:
        return (
            f"{self.inner.summary()}, clients train by DP-SGD: {self.steps} steps a round, noise "
            f"multiplier {self.event.noise_multiplier:g}, sampling rate {self._rate:g}"
        )

    def _ledger_of(self, run: Run) -> RunLedger:
        return self._ledgers.of(
            run,
            epsilon=self.epsilon_budget,
            delta=self.delta,
            accountant=self.accountant,
            adjacency="add-or-remove-one",
            unit="record",
        )

    @property
    def _rate(self) -> float:
        sampling = self.event.sampling
        return sampling.rate if isinstance(sampling, Poisson) else 1.0

    def _asked(self) -> ConfigRecord:
        return ConfigRecord(
            {
                "noise-multiplier": self.event.noise_multiplier,
                "sampling-rate": self._rate,
                "steps": self.steps,
                "max-norm": self.max_norm,
            }
        )

    def _statement(self, run: Run, epsilon: float) -> PrivacyStatement:
        """Say what the run promises; nobody's part in a round makes another's more costly."""
        return PrivacyStatement(
            epsilon=epsilon,
            delta=self.delta,
            unit="record",
            adjacency="add-or-remove-one",
            sampling=self.event.sampling,
            mechanism=f"DP-SGD at each client, gradients of single examples clipped to "
            f"{self.max_norm:g}, noise multiplier {self.event.noise_multiplier:g}, {self.steps} "
            "steps a round, as if every client took part in every round",
            noise_added_at="client",
            accountant=self.accountant,
            noise_randomness="seeded: simulation only" if run.simulated else "up to the clients",
            covers=("the clients' models", "the global models of all rounds"),
            not_covered=("the clients' metrics", "how many examples a client has"),
            sampling_enforced=False,
        )


def with_example_dp(
    strategy: Strategy,
    *,
    noise_multiplier: float,
    sampling_rate: float,
    steps: int,
    max_norm: float,
    delta: float,
    epsilon_budget: float | None = None,
    accountant: AccountantName = "pld",
) -> ExampleDP:
    """Return a strategy that does the same with clients that protect each of their examples.

    The clients train by DP-SGD (Abadi et al. 2016, arXiv:1607.00133), for example with Opacus, by
    the numbers that a message's record ``"dp"`` holds: ``noise-multiplier``, ``sampling-rate``,
    ``steps`` and ``max-norm``. A client that has done so says it by putting that record into its
    reply; other replies are left out of the round. The server counts the steps in the ledger of the
    run. It takes the clients' word, who are also the ones that it protects. An example belongs to
    one client, so that a round costs it the same whoever else takes part.

    Parameters
    ----------
    strategy : Strategy
        What to wrap; it is used from here on through the wrapper alone.
    noise_multiplier : float
        The standard deviation of the noise in a step's sum of gradients, over ``max_norm``.
    sampling_rate : float
        The probability with which an example is in a step's batch, each by itself.
    steps : int
        How many steps a client takes in a round.
    max_norm : float
        The bound on the L2 norm of one example's gradient.
    delta : float
        The chance that the promise fails.
    epsilon_budget : float, optional
        The run ends in good order before a round that would exceed it.
    accountant : {"pld", "rdp"}
        How to count.

    Raises
    ------
    ConfigError
        A number is out of its range, or the strategy aggregates by itself.

    Examples
    --------
    >>> from umbel.strategies import FedAvg
    >>> strategy = with_example_dp(
    ...     FedAvg(), noise_multiplier=1.0, sampling_rate=0.05, steps=20, max_norm=1.0, delta=1e-5
    ... )
    """
    return ExampleDP(
        strategy,
        noise_multiplier=noise_multiplier,
        sampling_rate=sampling_rate,
        steps=steps,
        max_norm=max_norm,
        delta=delta,
        epsilon_budget=epsilon_budget,
        accountant=accountant,
    )
