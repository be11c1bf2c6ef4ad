import numpy as np
import pytest

from umbel.base import ConfigError, RecordError
from umbel.records import ArrayRecord, ConfigRecord, RecordDict, decode, encode
from umbel.updates import pack_state, same_layout, unpack_state


def travelled(state):
    return unpack_state(decode(b"".join(encode(pack_state(state)))))


def equal(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    return type(left) is type(right) and left == right


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"step": 3, "rate": 0.1},
        {"v": {}},
        {"numbers": {"arrays": np.ones(2)}, "arrays": {"numbers": 1}},
        {"0": {"m": {"a/b": np.ones(2, np.float32), "c": np.array(1.5)}, "v": {}}, "1": {"n": 1}},
        {"mixed": {"w": np.arange(3), "step": 2, "inner": {"x": np.array(1.0)}}},
    ],
)
def test_a_state_comes_back_bit_for_bit(state):
    assert equal(travelled(state), state)


def test_a_numpy_scalar_keeps_its_dtype():
    back = travelled({"rate": np.float32(0.1)})["rate"]
    assert (back.dtype, back.shape, float(back)) == (np.float32, (), float(np.float32(0.1)))


def test_what_comes_back_is_the_callers_own():
    state = {"v": {"w": np.ones(2)}}
    packed = pack_state(state)
    unpacked = unpack_state(packed)
    state["v"]["w"][:] = 5
    unpacked["v"]["w"][:] += 1
    assert unpacked["v"]["w"].tolist() == [2.0, 2.0]


def test_what_is_no_state_is_refused():
    with pytest.raises(RecordError):
        pack_state({"name": "adam"})
    for content in (
        RecordDict({"numbers": ConfigRecord({"step": 1})}),
        RecordDict({"model": ArrayRecord([np.ones(1)])}),
    ):
        with pytest.raises(ConfigError, match="no part of a state"):
            unpack_state(content)


def test_layouts_differ_by_names_and_not_by_arrays():
    adam = {"0": {"m": {}, "v": {}}, "1": {"step": 0}}
    assert same_layout({"0": {"m": {"w": np.ones(1)}, "v": {}}, "1": {"step": 7}}, adam)
    assert not same_layout({"0": {"v": {}}}, adam)
    assert not same_layout({"step": 1}, {"step": {}})
