"""A mask is its key's stream, without a word used twice, however it is cut into pieces."""

import numpy as np
import pytest

from umbel.base import KeyStream, fresh_key
from umbel.secagg.masks import add_masks


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("length", [1, 7, 65_536, 300_001])
def test_a_mask_is_the_stream_of_its_key(bits, length):
    kind, key = np.dtype(f"uint{bits}"), fresh_key()
    vector = np.zeros(length, kind)
    add_masks(vector, [(key, 1)])
    np.testing.assert_array_equal(vector, KeyStream(key).words(length, kind))
    add_masks(vector, [(key, -1)])
    assert not vector.any()


def test_more_masks_than_are_open_at_once():
    keys = [fresh_key() for _ in range(300)]
    vector, expected = np.zeros(50, np.uint64), np.zeros(50, np.uint64)
    add_masks(vector, [(key, -1 if i % 3 else 1) for i, key in enumerate(keys)])
    for i, key in enumerate(keys):
        words = KeyStream(key).words(50, np.uint64)
        expected = expected - words if i % 3 else expected + words
    np.testing.assert_array_equal(vector, expected)


def test_threads_change_nothing():
    keys = [(fresh_key(), 1) for _ in range(4)]
    whole = np.arange(600_000, dtype=np.uint32)  # with four masks, above what threads are used for
    start = whole[:1000].copy()
    add_masks(whole, keys)
    add_masks(start, keys)
    np.testing.assert_array_equal(whole[:1000], start)
