"""The privacy ledger of a run, which lies in its log: spent before released, also after a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from umbel.base import ConfigError
from umbel.privacy import (
    AccountantName,
    Adjacency,
    Event,
    PrivacyLedger,
    PrivacyStatement,
    Spent,
)
from umbel.serverapp.run import Run

Describe = Callable[[float], PrivacyStatement]
"""Says what the run promises, given the epsilon of all releases so far."""


class RunLedger:
    """Counts what a run has released, all calls of ``strategy.start`` together.

    What the log of the run holds is counted first, whether the rounds were cut off or not.

    Parameters
    ----------
    run : Run
        The run.
    epsilon : float or None
        The budget; None for no limit.
    delta : float
        The delta at which epsilon is counted.
    accountant : {"pld", "rdp"}
        How to count.
    adjacency : {"add-or-remove-one", "zero-out", "replace-one"}
        Which data sets are neighbours.

    Raises
    ------
    ConfigError
        A number is out of its range; or the run has released something for other neighbours, with
        which no sum can be made.

    Examples
    --------
    >>> from umbel.privacy import GaussianEvent, NoAmplification
    >>> def describe(epsilon):
    ...     return PrivacyStatement(
    ...         epsilon, 1e-6, "client", "zero-out", NoAmplification(), "Gaussian", "server",
    ...         "rdp", "cryptographic", ("the model",))
    >>> run = Run()
    >>> ledger = RunLedger(run, epsilon=9.0, delta=1e-6, accountant="rdp", adjacency="zero-out")
    >>> ledger.spend(("round", 1), GaussianEvent(2.0), describe).epsilon < 9.0
    True
    >>> [entry.event for entry in run.log.entries()]
    ['privacy_spent']
    """

    def __init__(
        self,
        run: Run,
        *,
        epsilon: float | None,
        delta: float,
        accountant: AccountantName,
        adjacency: Adjacency,
    ) -> None:
        self._run = run
        self._has_budget = epsilon is not None
        self._ledger = PrivacyLedger(epsilon, delta, accountant=accountant, adjacency=adjacency)
        released = [e.data for e in run.log.entries() if e.event == "privacy_spent"]
        for data in released:
            _check_adjacency(data["statement"], adjacency)
        self._ledger.replay(Spent.from_json(data) for data in released)
        self._known = {entry.key for entry in self._ledger.entries}
        self._paid = {(data["start"], data["round"]) for data in released}

    def check(self, event: Event, count: int = 1) -> None:
        """Raise ``PrivacyBudgetExhausted`` if a round with this event would exceed the budget.

        A round that was paid for before a crash may be done again: if it comes to the same, it
        costs nothing, and if not, ``spend`` refuses.
        """
        is_paid = (self._run.start, self._run.server_round) in self._paid
        if self._has_budget and not is_paid:
            self._ledger.check(event, count)

    def spend(
        self, key: tuple[str | int, ...], event: Event, describe: Describe, count: int = 1
    ) -> PrivacyStatement:
        """Enter a release before it is made; when this returns, the disk knows of it.

        The same key again is the same release, and is not entered again. The statement is also that
        of the run's result from now on.

        Raises
        ------
        PrivacyBudgetExhausted
            It would exceed the budget. Nothing was entered, and nothing may be released.
        """
        spent = self._ledger.spend(key, event, count)
        statement = describe(self._ledger.epsilon)
        run = self._run
        if key not in self._known:
            self._known.add(key)
            data = spent.to_json()
            run.emit(
                "privacy_spent",
                start=run.start,
                round=run.server_round,
                key=data["key"],
                event=data["event"],
                count=spent.count,
                epsilon=data["epsilon"],
                delta=self._ledger.delta,
                statement=statement.to_json(),
            )
            run.log.sync()
        if run.result is not None:
            run.result.privacy = statement
        return statement


def _check_adjacency(statement: dict[str, Any], adjacency: Adjacency) -> None:
    before = statement["adjacency"]
    if before != adjacency:
        raise ConfigError(
            f"the run has spent privacy for neighbours by {before!r}, and is to spend more for "
            f"neighbours by {adjacency!r}: the two do not add up",
            hint="keep to one kind of sampler and of noise in a run",
        )
