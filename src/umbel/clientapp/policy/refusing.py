"""What those are told whom a policy refuses something."""

from __future__ import annotations

from umbel.base import PolicyRefused
from umbel.clientapp.policy.rules import Policy


def refusal(policy: Policy, rule: str, text: str, detail: str = "") -> PolicyRefused:
    r"""Return the error for a refusal.

    Parameters
    ----------
    policy : Policy
        Whose contact it names.
    rule : str
        The table or key that refuses.
    text : str
        Why. It leaves the node: nothing in it comes from data, or was chosen by an app.
    detail : str
        What the owner may know besides.

    Examples
    --------
    >>> from umbel.clientapp.policy.document import parse_policy
    >>> policy = parse_policy('contact = "dpo@clinic"\n[messages]\ntypes = ["train"]')
    >>> str(refusal(policy, "arrays", "no arrays leave this node"))
    "[U408] the node's policy ([arrays]): no arrays leave this node. Hint: turn to dpo@clinic"
    """
    error = PolicyRefused(f"the node's policy ([{rule}]): {text}", hint=f"turn to {policy.contact}")
    if detail:
        error.add_note(detail)
    return error
