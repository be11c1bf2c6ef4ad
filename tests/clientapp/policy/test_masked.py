"""Secure aggregation under a policy: how many are in the sum, and what leaves."""

import numpy as np
import pytest

from umbel.base import PolicyRefused
from umbel.clientapp import check_content, release_reply, settings_of_masks
from umbel.records import ArrayRecord, ConfigRecord, RecordDict

RULES = "[arrays]\n[secure-aggregation]\nminimum-cohort = 3\n"


def asked(**secagg):
    arrays = ArrayRecord({"w": np.zeros(10, np.float32)})
    return RecordDict({"arrays": arrays, "secagg": ConfigRecord(secagg)})


def masked(vector, **secagg):
    records = {"masked": ArrayRecord({"vector": vector})}
    return RecordDict(records | ({"secagg": ConfigRecord(secagg)} if secagg else {}))


def refusal(call, *arguments):
    with pytest.raises(PolicyRefused) as caught:
        call(*arguments)
    return caught.value.message


@pytest.mark.parametrize(
    ("stage", "key"), [("share", "nodes"), ("consistency", "survivors"), ("unmask", "survivors")]
)
def test_a_small_cohort_is_refused_before_anything_is_computed(policy, stage, key):
    rules = policy(RULES)
    check_content(rules, "train", asked(stage=stage, **{key: [1, 2, 3]}))
    check_content(rules, "train", asked(stage="mask", **{key: [1, 2]}))  # one's neighbours
    message = refusal(check_content, rules, "train", asked(stage=stage, **{key: [1, 2, 2]}))
    assert "minimum-cohort" in message
    assert "2 clients" in message


def test_who_takes_no_part_says_so(policy):
    assert "takes no part" in refusal(check_content, policy("[arrays]"), "train", asked(stage="a"))


def test_training_in_the_clear_is_refused_where_masks_are_required(policy):
    plain = RecordDict({"arrays": ArrayRecord({"w": np.zeros(10, np.float32)})})
    check_content(policy(RULES), "train", plain)
    rules = policy(RULES + "required = true")
    assert "alone" in refusal(check_content, rules, "train", plain)
    check_content(rules, "evaluate", plain)
    assert "masked, or not at all" in refusal(release_reply, rules, plain, plain, None)


def test_the_vector_and_the_shares_leave(policy):
    reply = masked(np.arange(12, dtype=np.uint32), shares=[b"abc"], public=b"key")
    left = release_reply(
        policy(RULES + "required = true"), asked(stage="mask"), reply, None
    ).content
    assert left["masked"] == reply["masked"]
    assert dict(left["secagg"]) == {"public": b"key", "shares": [b"abc"]}
    assert list(left["secagg"]) == ["public", "shares"]


@pytest.mark.parametrize(
    "reply",
    [
        masked(np.zeros(10, np.float32)),
        masked(np.zeros(10, np.int64)),
        masked(np.zeros(1000, np.uint32)),
        masked(np.zeros(10, np.uint32), shares=b"x" * 2_000_000),
        RecordDict({"masked": ArrayRecord({"raw": np.zeros(3, np.uint32)})}),
        RecordDict({"raw": ArrayRecord({"vector": np.zeros(3, np.uint32)})}),
        RecordDict({"arrays": ArrayRecord({"w": np.zeros(10, np.float32)})}),
    ],
)
def test_other_things_do_not(policy, reply):
    refusal(release_reply, policy(RULES + "required = true"), asked(stage="mask"), reply, None)


def test_what_the_app_is_told(policy):
    rules = policy(RULES + 'identity = "/key.pem"\ntrusted = "/trusted.pem"')
    assert settings_of_masks(rules) == {
        "secagg-minimum-cohort": 3,
        "secagg-identity": "/key.pem",
        "secagg-trusted": "/trusted.pem",
    }
    assert settings_of_masks(policy()) == {}
