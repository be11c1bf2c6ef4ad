"""The policy of a node's owner: rules that no app can lift, as decisions without I/O."""

from umbel.clientapp.policy.account import Account, Entry
from umbel.clientapp.policy.admission import (
    AppIdentity,
    PolicyRequest,
    check_app,
    check_budget,
    check_request,
)
from umbel.clientapp.policy.bounding import Normals, normals_of
from umbel.clientapp.policy.document import parse_policy
from umbel.clientapp.policy.explanation import Explanation, explain_policy
from umbel.clientapp.policy.failures import told_failure
from umbel.clientapp.policy.masked import check_content, settings_of_masks
from umbel.clientapp.policy.refusing import refusal
from umbel.clientapp.policy.release import ReleasedReply, release_reply
from umbel.clientapp.policy.rules import Policy

__all__ = [
    "Account",
    "AppIdentity",
    "Entry",
    "Explanation",
    "Normals",
    "Policy",
    "PolicyRequest",
    "ReleasedReply",
    "check_app",
    "check_budget",
    "check_content",
    "check_request",
    "explain_policy",
    "normals_of",
    "parse_policy",
    "refusal",
    "release_reply",
    "settings_of_masks",
    "told_failure",
]
