"""What a node takes on: which messages, for which apps, when, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.clientapp.policy.account import Account
from umbel.clientapp.policy.refusing import refusal
from umbel.clientapp.policy.release import multipliers_of_arrays
from umbel.clientapp.policy.rules import Policy

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """A message that has come, before anything of it is fetched.

    Attributes
    ----------
    run_id, message_id, message_type : str
        Its names, and what it asks for.
    size_bytes : int
        Of its content.
    at : float
        When it came, in seconds since the Unix epoch.
    """

    run_id: str
    message_id: str
    message_type: str
    size_bytes: int
    at: float


@dataclass(frozen=True, slots=True)
class AppIdentity:
    """What is known of an app, and not only claimed.

    Attributes
    ----------
    name : str
        As its own ``pyproject.toml`` says.
    bundle : str
        SHA-256 of its bundle.
    signer : str or None
        The public key whose signature was verified.
    """

    name: str
    bundle: str
    signer: str | None = None


def check_request(policy: Policy, request: PolicyRequest, account: Account) -> None:
    """Return if a message may be taken on, whatever its app.

    Raises
    ------
    PolicyRefused
        It may not.
    """
    rules, hours = policy.messages, policy.opening_hours
    if not rules.allows(request.message_type):
        raise refusal(
            policy,
            "messages.types",
            f"only messages of type {', '.join(rules.types)} are answered",
            f"it was {request.message_type[:100]!r}",
        )
    if rules.max_bytes is not None and request.size_bytes > rules.max_bytes:
        raise refusal(
            policy,
            "messages.max-bytes",
            f"the message has {request.size_bytes} bytes, and {rules.max_bytes} are taken",
        )
    if hours is not None and not hours.is_open(request.at):
        raise refusal(policy, "opening-hours", f"the node is closed now; it is open {hours}")
    if account.was_admitted(request.message_id):
        return  # its first answer was lost in a crash, before it left
    if rules.per_run is not None and account.of_run(request.run_id) >= rules.per_run:
        raise refusal(
            policy, "messages.per-run", f"{rules.per_run} messages of one run are answered"
        )
    since = account.since(request.at - _HOUR_S)
    if rules.per_hour is not None and since >= rules.per_hour:
        raise refusal(
            policy, "messages.per-hour", f"{rules.per_hour} messages in an hour are answered"
        )


def check_app(policy: Policy, app: AppIdentity) -> None:
    """Return if an app may run.

    Raises
    ------
    PolicyRefused
        No rule allows it.
    """
    if not policy.apps:
        return
    for rule in policy.apps:
        if (
            rule.name == app.name
            and (rule.bundles is None or app.bundle in rule.bundles)
            and (rule.signers is None or app.signer in rule.signers)
        ):
            return
    raise refusal(
        policy,
        "[apps]",
        "this app is not among those that may run: "
        + ", ".join(dict.fromkeys(rule.name for rule in policy.apps)),
        f"name {app.name!r}, bundle {app.bundle}, signer {app.signer or 'none'}",
    )


def check_budget(policy: Policy, app: str, message_type: str, account: Account) -> None:
    """Return if there is enough of the budget left for an answer with arrays.

    Other messages than training may be answered without arrays: their replies are asked when they
    are there.

    Raises
    ------
    PolicyRefused
        It is spent.
    """
    if message_type.partition(".")[0] == "train" and policy.arrays is not None:
        account.check(app, multipliers_of_arrays(policy))
