r"""What has been answered under a policy and what it cost, as it follows from a list of entries.

Every release is a Gaussian mechanism without sampling. Such mechanisms compose exactly: noise
multipliers :math:`z_i` together are one of :math:`(\sum_i z_i^{-2})^{-1/2}` (Dong, Roth and Su,
"Gaussian Differential Privacy", 2022, corollary 2), whose ε is that of the analytic Gaussian
mechanism. So what is told here is not a bound on what was spent, but that itself.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from umbel.clientapp.policy.refusing import refusal
from umbel.clientapp.policy.rules import Policy
from umbel.privacy import gaussian_delta, gaussian_epsilon

Entry = dict[str, Any]
"""Something that happened, as JSON can hold it."""

_KEPT_S = 3600.0


class Account:
    r"""Counts messages, and adds up what replies told.

    Whoever keeps an account writes each entry that it returns to disk before what the entry says
    is done, and hands them all to ``replay`` when it begins again.

    Parameters
    ----------
    policy : Policy
        The node's. Entries of another data set count as messages, not for its budget.

    Examples
    --------
    >>> from umbel.clientapp.policy.document import parse_policy
    >>> account = Account(parse_policy('contact = "dpo"\n[messages]\ntypes = ["train"]'))
    >>> entry = account.admit("run", "m", at=0.0)
    >>> account.of_run("run"), account.was_admitted("m")
    (1, True)
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._times: deque[float] = deque()
        self._of_run: Counter[str] = Counter()
        self._open: set[str] = set()
        self._precision = 0.0
        self._precision_of: Counter[str] = Counter()

    def replay(self, entry: Mapping[str, Any]) -> None:
        """Take in an entry that was written before."""
        match entry["event"]:
            case "admitted":
                self._admit(entry["run"], entry["message"], entry["at"])
            case "closed":
                self._close(entry)

    # ---- Messages

    def admit(self, run_id: str, message_id: str, at: float) -> Entry:
        """Count a message, unless it was admitted before and has no answer yet."""
        entry = {"event": "admitted", "at": at, "run": run_id, "message": message_id}
        self._admit(run_id, message_id, at)
        return entry

    def was_admitted(self, message_id: str) -> bool:
        """Whether a message was taken on and no answer to it has ever left."""
        return message_id in self._open

    def of_run(self, run_id: str) -> int:
        """How many messages of a run were taken on."""
        return self._of_run[run_id]

    def since(self, at: float) -> int:
        """How many messages were taken on after a moment, of the last hour."""
        return sum(time > at for time in self._times)

    # ---- Privacy

    def check(self, app: str, multipliers: tuple[float, ...]) -> None:
        """Return if the budgets suffice for a release.

        Raises
        ------
        PolicyRefused
            One of them does not.
        """
        floor = self._policy.privacy
        if floor is None or floor.epsilon is None or floor.delta is None or not multipliers:
            return
        more = _precision(multipliers)
        if not _is_within(self._precision + more, floor.epsilon, floor.delta):
            raise refusal(
                self._policy,
                "privacy.epsilon",
                f"the privacy budget of the data set is spent: ε = {floor.epsilon:g}",
                f"spent: ε = {self.epsilon():.4g} at δ = {floor.delta:g}",
            )
        parts = [rule.epsilon for rule in self._policy.apps if rule.name == app]
        limit = max((part for part in parts if part is not None), default=None)
        own = self._precision_of[app] + more
        if limit is not None and not _is_within(own, limit, floor.delta):
            raise refusal(
                self._policy,
                "apps.epsilon",
                f"this app's part of the privacy budget is spent: ε = {limit:g}",
                f"app {app!r}",
            )

    def close(
        self, run_id: str, message_id: str, app: str, multipliers: tuple[float, ...], at: float
    ) -> Entry:
        """Note that an answer is about to leave, and spend what it costs.

        Raises
        ------
        PolicyRefused
            The budget does not suffice; nothing was spent.
        """
        self.check(app, multipliers)
        floor = self._policy.privacy
        entry = {
            "event": "closed",
            "at": at,
            "run": run_id,
            "message": message_id,
            "app": app,
            "data-set": "" if floor is None else floor.data_set,
            "noise-multipliers": list(multipliers),
        }
        self._close(entry)
        return entry

    def epsilon(self) -> float:
        """Return what of the data set's budget is spent, at its δ."""
        return self._epsilon(self._precision)

    def _epsilon(self, precision: float) -> float:
        floor = self._policy.privacy
        if not precision or floor is None or floor.delta is None:
            return 0.0
        return gaussian_epsilon(1 / math.sqrt(precision), floor.delta)

    def _admit(self, run_id: str, message_id: str, at: float) -> None:
        if message_id not in self._open:
            self._open.add(message_id)
            self._of_run[run_id] += 1
            self._times.append(at)
            while self._times[0] < at - _KEPT_S:
                self._times.popleft()

    def _close(self, entry: Mapping[str, Any]) -> None:
        self._open.discard(entry["message"])
        floor = self._policy.privacy
        if floor is not None and entry["data-set"] == floor.data_set:
            more = _precision(entry["noise-multipliers"])
            self._precision += more
            self._precision_of[entry["app"]] += more  # type: ignore[assignment]


def releases_within(multipliers: tuple[float, ...], epsilon: float, delta: float) -> int | None:
    """Return how many releases of the same kind a budget is enough for; None for any number.

    Parameters
    ----------
    multipliers : tuple of float
        The noise multipliers of one release.
    epsilon, delta : float
        The budget.
    """
    each = _precision(multipliers)
    if not each:
        return None
    count = 0
    step = 1 << 40
    while step:
        if _is_within((count + step) * each, epsilon, delta):
            count += step
        step >>= 1
    return count


def _is_within(precision: float, epsilon: float, delta: float) -> bool:
    return gaussian_delta(1 / math.sqrt(precision), epsilon) <= delta


def _precision(multipliers: Any) -> float:
    return math.fsum(z**-2 for z in multipliers)
