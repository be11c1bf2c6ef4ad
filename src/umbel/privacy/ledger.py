"""The privacy ledger: what was spent, and what the next release would bring it to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from umbel.base import PrivacyBudgetExhausted, StateError
from umbel.privacy.accounting import Accountant, AccountantName, make_accountant
from umbel.privacy.checks import positive, small_chance, whole
from umbel.privacy.events import Adjacency, Event, event_from_json, event_to_json

Key = tuple[str | int, ...]
"""Names one release: the same key again is the same release, and costs nothing more."""


@dataclass(frozen=True)
class Spent:
    """One release in a ledger.

    Attributes
    ----------
    key : tuple of str or int
        Which release.
    event : Event
        What was released.
    epsilon : float
        What all releases up to and including this one come to.
    count : int
        How often the event is in it.
    """

    key: Key
    event: Event
    epsilon: float
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values; an infinite ε is the text ``"Infinity"``."""
        epsilon = self.epsilon if math.isfinite(self.epsilon) else "Infinity"
        data = {"key": list(self.key), "event": event_to_json(self.event), "epsilon": epsilon}
        return data if self.count == 1 else data | {"count": self.count}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Spent:
        """Return the entry that :meth:`to_json` wrote."""
        event, count = event_from_json(data["event"]), data.get("count", 1)
        return cls(tuple(data["key"]), event, float(data["epsilon"]), count)


class PrivacyLedger:
    """Counts what releases cost, and refuses one that would cost more than is left.

    It holds no file: whoever keeps it writes down each :class:`Spent` *before* the release, and
    hands them to :meth:`replay` when it starts again.

    Parameters
    ----------
    epsilon : float or None
        The budget; None for no limit.
    delta : float
        The δ at which ε is counted, in (0, 1).
    accountant : {"pld", "rdp"}
        How to count; see :func:`make_accountant`.
    adjacency : {"add-or-remove-one", "zero-out", "replace-one"}
        Which data sets are neighbours.

    Raises
    ------
    ConfigError
        A number is out of its range, or the accountant has no bound for an event.

    Examples
    --------
    >>> from umbel.privacy.events import GaussianEvent
    >>> ledger = PrivacyLedger(epsilon=3.0, delta=1e-6, accountant="rdp")
    >>> first = ledger.spend(("round", 1), GaussianEvent(noise_multiplier=3.0))
    >>> again = ledger.spend(("round", 1), GaussianEvent(noise_multiplier=3.0))
    >>> len(ledger.entries), ledger.epsilon == first.epsilon < 3.0
    (1, True)
    >>> ledger.spend(("round", 2), GaussianEvent(noise_multiplier=0.5))
    Traceback (most recent call last):
    umbel.base.errors.PrivacyBudgetExhausted: [U205] ...
    """

    def __init__(
        self,
        epsilon: float | None,
        delta: float,
        *,
        accountant: AccountantName = "pld",
        adjacency: Adjacency = "add-or-remove-one",
    ) -> None:
        self.budget = math.inf if epsilon is None else positive(epsilon, "epsilon")
        self.delta = small_chance(delta)
        self._accountant: Accountant = make_accountant(accountant, adjacency)
        self._asked: tuple[Event, int, Accountant] | None = None
        self._entries: dict[Key, Spent] = {}

    @property
    def entries(self) -> tuple[Spent, ...]:
        """All releases, in the order in which they were spent."""
        return tuple(self._entries.values())

    @property
    def epsilon(self) -> float:
        """What all releases so far come to; 0 before the first."""
        return self._accountant.epsilon(self.delta) if self._entries else 0.0

    def would_spend(self, event: Event, count: int = 1) -> float:
        """Return the ε that all releases would come to after so many more of this event."""
        return self._after(event, whole(count, "count")).epsilon(self.delta)

    def check(self, event: Event, count: int = 1) -> None:
        """Raise ``PrivacyBudgetExhausted`` if so many more of this event are over the budget."""
        after = self.would_spend(event, count)
        if not after <= self.budget:  # so that a NaN is refused as well
            raise PrivacyBudgetExhausted(
                f"the next release would bring ε from {self.epsilon:.4g} to {after:.4g} at "
                f"δ = {self.delta:g}, over the budget of {self.budget:.4g}",
                hint="nothing was released; what came before stands. More noise, fewer rounds or "
                "a smaller share of clients a round make a budget last longer",
                releases=len(self._entries),
            )

    def spend(self, key: Key, event: Event, count: int = 1) -> Spent:
        """Enter a release, before it is made; the same key again is the same release.

        It may consist of the event so many times, as a round of private training steps does.

        Raises
        ------
        PrivacyBudgetExhausted
            It would exceed the budget. Nothing was entered.
        StateError
            The key was used for another event: two different releases under one name.
        """
        known = self._entries.get(key)
        if known is not None:
            return self._same(known, event, count)
        self.check(event, count)
        return self._enter(key, event, count)

    def replay(self, entries: Iterable[Spent]) -> None:
        """Enter releases that were made before, whatever the budget is now."""
        for entry in entries:
            known = self._entries.get(entry.key)
            if known is not None:
                self._same(known, entry.event, entry.count)
            else:
                self._accountant = self._accountant.compose(entry.event, entry.count)
                self._entries[entry.key] = entry
        self._asked = None

    def _same(self, known: Spent, event: Event, count: int) -> Spent:
        if (known.event, known.count) != (event, count):
            raise StateError(
                "two different releases have one name in the privacy ledger",
                key=known.key,
                known=known.event,
                new=event,
            )
        return known

    def _enter(self, key: Key, event: Event, count: int) -> Spent:
        self._accountant = self._after(event, count)
        self._asked = None
        self._entries[key] = Spent(key, event, self._accountant.epsilon(self.delta), count)
        return self._entries[key]

    def _after(self, event: Event, count: int) -> Accountant:
        # A round is asked about before it begins and spent after it: counted once.
        if self._asked is None or self._asked[:2] != (event, count):
            self._asked = (event, count, self._accountant.compose(event, count))
        return self._asked[2]
