"""The policy of a node's owner: rules that no app can lift, as decisions without I/O."""

from umbel.clientapp.policy.account import Account, Entry
from umbel.clientapp.policy.admission import (
    AppIdentity,
    Request,
    check_app,
    check_budget,
    check_request,
)
from umbel.clientapp.policy.bounding import Normals, normals
from umbel.clientapp.policy.document import parse_policy
from umbel.clientapp.policy.explanation import Explanation, explained
from umbel.clientapp.policy.failures import told_failure
from umbel.clientapp.policy.masked import check_content, settings_of_masks
from umbel.clientapp.policy.refusing import refused
from umbel.clientapp.policy.release import Released, release
from umbel.clientapp.policy.rules import Policy

__all__ = [
    "Account",
    "AppIdentity",
    "Entry",
    "Explanation",
    "Normals",
    "Policy",
    "Released",
    "Request",
    "check_app",
    "check_budget",
    "check_content",
    "check_request",
    "explained",
    "normals",
    "parse_policy",
    "refused",
    "release",
    "settings_of_masks",
    "told_failure",
]
