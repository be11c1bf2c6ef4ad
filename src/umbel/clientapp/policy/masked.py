"""Secure aggregation as a policy sees it: who is in the sum, and that only masks leave."""

from __future__ import annotations

from umbel.base import Scalar
from umbel.clientapp.policy.refusing import refusal
from umbel.clientapp.policy.rules import Policy
from umbel.records import ArrayRecord, ConfigRecord, Record, RecordDict, encode, size_bytes

SECAGG = "secagg"
"""The record of settings that messages of the protocol carry, both ways."""

_MASKED, _VECTOR = "masked", "vector"
_COHORTS = {"share": "nodes", "consistency": "survivors", "unmask": "survivors"}
"""Under which name a step of the protocol tells the client who will be in the sum."""

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
            raise refusal(
                policy,
                "secure-aggregation.required",
                "training is answered under secure aggregation alone",
            )
        return
    if rules is None:
        raise refusal(policy, "secure-aggregation", "this node takes no part in it")
    told = message.config_records[SECAGG]
    nodes = told.get(_COHORTS.get(str(told.get("stage")), ""))
    if isinstance(nodes, list) and len(set(nodes)) < rules.minimum_cohort:
        raise refusal(
            policy,
            "secure-aggregation.minimum-cohort",
            f"a sum of {len(set(nodes))} clients hides too little: {rules.minimum_cohort} have to "
            "take part",
        )


def masked_records(policy: Policy, message: RecordDict, reply: RecordDict) -> dict[str, Record]:
    """Return what may leave of the protocol's own part of a reply.

    Whether a vector is masked cannot be seen: masks look like chance, and so may what is not.

    Raises
    ------
    PolicyRefused
        The vector is not as long as the model or not of integers; or what goes with it is too
        large for keys and shares.
    """
    left: dict[str, Record] = {}
    arrays = reply.array_records.get(_MASKED)
    if arrays is not None:
        vector = arrays.get(_VECTOR)
        if vector is None or len(arrays) > 1 or vector.view().dtype.kind != "u":
            raise refusal(
                policy, "secure-aggregation", "a masked update is one vector of unsigned integers"
            )
        numbers = [
            array.view().size for r in message.array_records.values() for array in r.values()
        ]
        if vector.view().size > _BESIDE_THE_MODEL + sum(numbers):
            raise refusal(policy, "secure-aggregation", "a masked vector is as long as the model")
        left[_MASKED] = ArrayRecord({_VECTOR: vector})
    settings = reply.config_records.get(SECAGG)
    if settings is not None:
        if size_bytes(encode(RecordDict({SECAGG: settings}))) > _SETTINGS_MAX_BYTES:
            raise refusal(
                policy,
                "secure-aggregation",
                f"keys and shares have at most {_SETTINGS_MAX_BYTES} bytes",
            )
        left[SECAGG] = ConfigRecord(dict(sorted(settings.items())))
    return left


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
