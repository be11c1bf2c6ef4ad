"""Secure aggregation as a policy sees it: who is in the sum, and that only masks leave."""

from __future__ import annotations

from umbel.base import Scalar
from umbel.clientapp.policy.bounding import Pair
from umbel.clientapp.policy.refusing import refused
from umbel.clientapp.policy.rules import Policy
from umbel.records import ConfigRecord, Record, RecordDict

SECAGG = "secagg"
"""The record of settings that messages of the protocol carry, both ways."""

_COHORTS = ("nodes", "survivors")
_SETTINGS_MAX_BYTES = 1024 * 1024
_BESIDE_THE_MODEL = 64
"""How many numbers beside the model's, such as its weight, a masked vector may hold."""


def asks_for_masks(message: RecordDict) -> bool:
    """Whether a message is one of the protocol."""
    return SECAGG in message.config_records


def check_content(policy: Policy, message_type: str, message: RecordDict) -> None:
    """Return if a message may be answered as far as secure aggregation goes.

    Raises
    ------
    PolicyRefused
        It asks for masks and none are used here, or for none where they must be; or the cohort is
        too small to hide a client in.
    """
    rules = policy.secure_aggregation
    if not asks_for_masks(message):
        if rules is not None and rules.required and message_type.partition(".")[0] == "train":
            raise refused(
                policy,
                "secure-aggregation.required",
                "training is answered under secure aggregation alone",
            )
        return
    if rules is None:
        raise refused(policy, "secure-aggregation", "this node takes no part in it")
    for key in _COHORTS:
        nodes = message.config_records[SECAGG].get(key)
        if isinstance(nodes, list) and len(set(nodes)) < rules.minimum_cohort:
            raise refused(
                policy,
                "secure-aggregation.minimum-cohort",
                f"a sum of {len(set(nodes))} clients hides too little: {rules.minimum_cohort} "
                "have to take part",
            )


def check_masked(policy: Policy, message: RecordDict, pairs: list[Pair]) -> None:
    """Return if arrays are as large as masked ones, and of their kind.

    Whether a vector is masked cannot be seen: masks look like chance, and so may what is not.

    Raises
    ------
    PolicyRefused
        They are not.
    """
    room = _BESIDE_THE_MODEL + sum(
        array.view().size for record in message.array_records.values() for array in record.values()
    )
    if any(pair.after.dtype.kind != "u" for pair in pairs):
        raise refused(policy, "secure-aggregation", "masked arrays hold integers without a sign")
    if sum(pair.after.size for pair in pairs) > room:
        raise refused(policy, "secure-aggregation", "a masked vector is as long as the model")


def masked_settings(policy: Policy, reply: RecordDict) -> dict[str, Record]:
    """Return the record of the protocol in a reply.

    Raises
    ------
    PolicyRefused
        It is too large for keys and shares.
    """
    record = reply.config_records.get(SECAGG)
    if record is None:
        return {}
    if len(repr(dict(record))) > _SETTINGS_MAX_BYTES:
        raise refused(
            policy,
            "secure-aggregation",
            f"keys and shares have at most {_SETTINGS_MAX_BYTES} bytes",
        )
    return {SECAGG: ConfigRecord(dict(sorted(record.items())))}


def settings_of_masks(policy: Policy) -> dict[str, Scalar]:
    """Return what the client's side of the protocol is told in ``context.node_config``."""
    rules = policy.secure_aggregation
    if rules is None:
        return {}
    told: dict[str, Scalar] = {"secagg-minimum-cohort": rules.minimum_cohort}
    if rules.identity is not None:
        told["secagg-identity"] = rules.identity
    if rules.trusted is not None:
        told["secagg-trusted"] = rules.trusted
    return told
