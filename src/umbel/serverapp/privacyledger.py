"""The privacy ledger of a run, which lies in its log: spent before released, also after a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NotRequired, TypedDict, Unpack

from umbel.base import ConfigError
from umbel.privacy import (
    WITHOUT_NOISE,
    AccountantName,
    Adjacency,
    Event,
    PrivacyLedger,
    PrivacyStatement,
    Spent,
    Unit,
)
from umbel.serverapp.run import Run
from umbel.serverapp.runlog import LogEntry

Describe = Callable[[float], PrivacyStatement]
"""Says what the run promises, given the epsilon of all releases so far."""


class LedgerTerms(TypedDict):
    """How a :class:`RunLedger` counts, and up to what."""

    epsilon: float | None
    delta: float
    accountant: AccountantName
    adjacency: Adjacency
    unit: NotRequired[Unit]


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
    unit : {"client", "user", "record"}
        Whose data are protected. What hides a client hides its records too, and is counted for
        them; unless it is made, in the same call of ``start``, from what hides these already.

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
        unit: Unit = "client",
    ) -> None:
        self._run = run
        self._has_budget = epsilon is not None
        self._ledger = PrivacyLedger(epsilon, delta, accountant=accountant, adjacency=adjacency)
        entries = list(run.log.entries())
        released = _counted(entries, unit, run.start)
        for data in released:
            _check_adjacency(data["statement"], adjacency)
        self._ledger.replay(Spent.from_json(data) for data in released)
        self._known = {entry.key for entry in self._ledger.entries}
        self._first: dict[tuple[int, int], tuple[str | int, ...]] = {}
        for data in released:
            self._first.setdefault((data["start"], data["round"]), tuple(data["key"]))
        paid = {data["start"] for data in released}
        self._has_gaps = any(start < run.start for start in _trained(entries) - paid)

    @property
    def entries(self) -> tuple[Spent, ...]:
        """All that was released so far, in order."""
        return self._ledger.entries

    def check(self, event: Event, count: int = 1) -> None:
        """Raise ``PrivacyBudgetExhausted`` if a round with this event would exceed the budget.

        A round that was paid for before a crash may be done again: if it comes to the same, it
        costs nothing, and if not, ``spend`` refuses.
        """
        is_paid = self._place in self._first
        if self._has_budget and not is_paid:
            self._ledger.check(event, count)

    def spend(
        self,
        key: tuple[str | int, ...],
        event: Event,
        describe: Describe,
        count: int = 1,
        *,
        anew: Event | None = None,
    ) -> PrivacyStatement:
        """Enter a release before it is made; when this returns, the disk knows of it.

        The same key again is the same release, and is not entered again. The statement is also that
        of the run's result from now on. ``anew`` is what is entered in place of the event where a
        process before has released something else in this round.

        Raises
        ------
        PrivacyBudgetExhausted
            It would exceed the budget. Nothing was entered, and nothing may be released.
        """
        if anew is not None and self._first.get(self._place, key) != key:
            event = anew
        spent = self._ledger.spend(key, event, count)
        statement = describe(self._ledger.epsilon)
        if self._has_gaps:
            statement = replace(statement, not_covered=(*statement.not_covered, WITHOUT_NOISE))
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

    @property
    def _place(self) -> tuple[int, int]:
        return self._run.start, self._run.server_round


class LedgerOfStart:
    """Makes the ledger of a call of ``strategy.start`` at the first question, and keeps it.

    Examples
    --------
    >>> run, ledgers = Run(), LedgerOfStart()
    >>> terms = {"epsilon": 9.0, "delta": 1e-6, "accountant": "rdp", "adjacency": "zero-out"}
    >>> ledger = ledgers.of(run, **terms)
    >>> ledgers.of(run, **terms) is ledger
    True
    """

    def __init__(self) -> None:
        self._known: tuple[Run, int, LedgerTerms, RunLedger] | None = None

    def of(self, run: Run, **terms: Unpack[LedgerTerms]) -> RunLedger:
        """Return the ledger, which knows all that the run has spent.

        Raises
        ------
        ConfigError
            As :class:`RunLedger` does.
        """
        known = self._known
        if known is None or known[0] is not run or known[1:3] != (run.start, terms):
            known = self._known = (run, run.start, terms, RunLedger(run, **terms))
        return known[3]


def _check_adjacency(statement: dict[str, Any], adjacency: Adjacency) -> None:
    before = statement["adjacency"]
    if before != adjacency:
        raise ConfigError(
            f"the run has spent privacy for neighbours by {before!r}, and is to spend more for "
            f"neighbours by {adjacency!r}: the two do not add up",
            hint="keep to one kind of sampler and of noise in a run",
        )


def cut_off(run: Run) -> dict[int, list[tuple[int, ...]]]:
    """Return whom the rounds that are done again had asked to train, by round.

    Those are the rounds of this call of ``strategy.start`` after the checkpoint that the run goes
    on from; a round may have been cut off more than once.
    """
    asked: list[tuple[int, tuple[int, ...]]] = []
    found: dict[int, list[tuple[int, ...]]] = {}
    for entry in run.log.entries() if run.resume else ():
        match entry.event:
            case "checkpoint_saved":
                asked = []
            case "phase_started" if entry.data["phase"] == "train":
                asked.append((entry.data["round"], tuple(entry.data["nodes"])))
            case "run_resumed":
                found = {}
                if run.start == max(1, entry.data["start"]):
                    for number, nodes in asked:
                        found.setdefault(number, []).append(nodes)
    return found


def _counted(entries: Iterable[LogEntry], unit: Unit, start: int) -> list[dict[str, Any]]:
    """Return the releases that count for a unit."""
    spent = [entry.data for entry in entries if entry.event == "privacy_spent"]
    of_records = [data for data in spent if data["statement"]["unit"] == "record"]
    if unit != "record":
        return [data for data in spent if data["statement"]["unit"] != "record"]
    made_from_them = {start, *(data["start"] for data in of_records)}
    return [
        data
        for data in spent
        if data["statement"]["unit"] == "record" or data["start"] not in made_from_them
    ]


def _trained(entries: Iterable[LogEntry]) -> set[int]:
    """Return the calls of ``strategy.start`` that have asked clients to train."""
    start, trained = 0, set()
    for entry in entries:
        if entry.event in ("strategy_started", "run_resumed"):
            start = entry.data.get("start", start)
        elif entry.event == "phase_started" and entry.data["phase"] == "train":
            trained.add(start)
    return trained
