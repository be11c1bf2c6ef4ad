import sys
from typing import NamedTuple

import numpy as np
import pytest

from umbel.base import MissingDependency, RecordError
from umbel.records.array import Array
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.codec import decode, encode
from umbel.records.recorddict import RecordDict

pytestmark = pytest.mark.slow


class Pair(NamedTuple):
    a: object
    b: object


@pytest.fixture(scope="module")
def jax():
    return pytest.importorskip("jax")


@pytest.fixture
def tree(jax):
    return {
        "dense": {"kernel": jax.numpy.ones((2, 3), "bfloat16"), "bias": jax.numpy.zeros(3)},
        "layers": [np.arange(3, dtype="int32"), Pair(jax.numpy.float32(2), np.zeros(0))],
        "step": 7,
        "nothing": None,
    }


def test_leaves_are_named_by_their_path(tree):
    record = ArrayRecord.from_pytree(tree)
    dense = {"dense/bias", "dense/kernel"}
    assert set(record) == dense | {"layers/0", "layers/1/a", "layers/1/b", "step"}
    assert record["dense/kernel"].dtype == "bfloat16"


def test_a_tree_comes_back(jax, tree):
    content = RecordDict({"arrays": ArrayRecord.from_pytree(tree)})
    record = decode(b"".join(encode(content)))["arrays"]
    empty = jax.tree_util.tree_map(lambda leaf: leaf * 0, tree)
    back = record.to_pytree(empty)
    assert jax.tree_util.tree_structure(back) == jax.tree_util.tree_structure(tree)
    assert ArrayRecord.from_pytree(back) == record
    assert isinstance(back["dense"]["kernel"], jax.Array)
    assert type(back["layers"][0]) is np.ndarray
    assert back["step"] == 7
    assert type(back["step"]) is int


def test_a_tree_keeps_nothing_of_the_buffer(jax):
    values = np.zeros(1024, "float32")
    tree = ArrayRecord({"w": values}).to_pytree({"w": jax.numpy.ones(1024)})
    values[:] = 5
    assert float(tree["w"].max()) == 0


def test_values_take_the_dtype_of_the_leaf(jax):
    back = ArrayRecord({"w": np.ones(2)}).to_pytree({"w": jax.numpy.zeros(2, "float16")})
    assert back["w"].dtype == "float16"


def test_an_array_of_jax_is_taken_directly(jax):
    assert Array(jax.numpy.arange(3.0)) == Array(np.arange(3, dtype="float32"))


@pytest.mark.parametrize(
    ("like", "text"),
    [
        ({"w": np.zeros(2), "b": np.zeros(1)}, r"missing \['b'\]"),
        ({}, r"not in the tree \['w'\]"),
        ({"w": np.zeros(3)}, r"shape \(2,\) cannot replace a leaf of shape \(3,\) \(key: w\)"),
    ],
)
def test_another_tree_is_refused(jax, like, text):
    with pytest.raises(RecordError, match=text):
        ArrayRecord({"w": np.zeros(2)}).to_pytree(like)


def test_two_leaves_of_one_name_are_refused(jax):
    with pytest.raises(RecordError, match="same path"):
        ArrayRecord.from_pytree({"a/b": np.zeros(1), "a": {"b": np.zeros(1)}})


def test_a_random_key_is_refused(jax):
    with pytest.raises(RecordError, match="key_data"):
        ArrayRecord.from_pytree({"key": jax.random.key(0)})


def test_without_jax_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(MissingDependency, match=r"umbel\[jax\]"):
        ArrayRecord.from_pytree({})
