import math

import numpy as np
import pytest

from umbel.base import AggregationError, RejectedReply
from umbel.records import ArrayRecord, RecordDict
from umbel.testing import aggregator_checks
from umbel.testing.cases import SHAPES
from umbel.updates import ModularSum

LENGTH = 1 + sum(math.prod(shape) for shape in SHAPES.values())


def masked(arrays, num_examples):
    """A reply with the bits of a model as if they were masked: they fill the range."""
    flat = np.concatenate([np.ravel(array).astype(np.float32) for array in arrays.values()])
    vector = np.concatenate([np.array([num_examples], np.uint32), flat.view(np.uint32)])
    return RecordDict({"masked": ArrayRecord({"vector": vector})})


def reply(vector, name="vector"):
    return RecordDict({"masked": ArrayRecord({name: vector})})


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=name) for name, check in aggregator_checks(reply=masked)]
)
def test_keeps_the_contract(check):
    check(ModularSum(LENGTH))


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_wraps_around(bits):
    total = ModularSum(2, bits)
    acc = total.zero()
    highest = np.iinfo(f"uint{bits}").max
    for _ in range(3):
        acc = total.add(acc, reply(np.array([highest, 1], f"uint{bits}")))
    outcome = total.finish(acc)
    assert outcome.vector.tolist() == [highest - 2, 3]
    assert outcome.count == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (RecordDict(), "no masked vector"),
        (RecordDict({"arrays": ArrayRecord({"w": np.zeros(2)})}), "no masked vector"),
        (reply(np.zeros(2, np.uint32), "w"), "no masked vector"),
        (reply(np.zeros(3, np.uint32)), r"uint32\[3\], not uint32\[2\]"),
        (reply(np.zeros(2, np.int32)), r"int32\[2\], not uint32\[2\]"),
        (reply(np.zeros(2, np.uint64)), r"uint64\[2\], not uint32\[2\]"),
    ],
)
def test_rejects_what_is_none(content, told):
    with pytest.raises(RejectedReply, match=told) as caught:
        ModularSum(2).add(ModularSum(2).zero(), content)
    assert caught.value.hint


def test_there_is_no_sum_of_nothing():
    with pytest.raises(AggregationError):
        ModularSum(2).finish(ModularSum(2).zero())
