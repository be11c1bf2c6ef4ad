import sys

import numpy as np
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import ConfigError, KeyStream, MissingDependency, derive_key, fresh_key

KEY = bytes(range(32))
NAMES = st.lists(st.integers() | st.text(max_size=3) | st.binary(max_size=3), max_size=3)


def test_the_stream_is_aes_256_in_counter_mode():
    # The blocks 0, 1 and 2 under the zero key; the last two are what GCM's test cases 13 and 14
    # (McGrew and Viega 2005) give as the tag of nothing and the cipher of a zero block.
    drawn = KeyStream(bytes(32)).words(48, np.uint8).tobytes().hex()
    assert drawn == (
        "dc95c078a2408989ad48a21492842087"
        "530f8afbc74536b9a963b4f1c4cb738b"
        "cea7403d4d606b6e074ec5d3baf39d18"
    )


def test_pieces_of_any_length_join_to_the_same_stream():
    whole = KeyStream(KEY).words(200_003, np.uint8)
    stream, parts = KeyStream(KEY), []
    for count in (1, 15, 16, 17, 0, 65_536, 65_537, 68_881):
        parts.append(stream.words(count, np.uint8))
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.uint64, ">u4"])
def test_words_are_read_lowest_byte_first(dtype):
    raw = KeyStream(KEY).words(800, np.uint8).tobytes()
    words = KeyStream(KEY).words(800 // np.dtype(dtype).itemsize, dtype)
    little = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<"))
    assert words.dtype.isnative
    assert np.array_equal(words, little)


def test_arrays_of_any_shape_are_filled():
    flat = KeyStream(KEY).words(6, np.uint16)
    shaped, scalar = np.zeros((2, 3), "<u2"), np.zeros((), "<u2")
    KeyStream(KEY).fill(shaped)
    KeyStream(KEY).fill(scalar)
    KeyStream(KEY).fill(np.zeros((0, 3), np.uint8))
    assert np.array_equal(shaped.reshape(-1), flat)
    assert scalar == flat[0]


def read_only():
    array = np.zeros(4, np.uint8)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "out", [np.zeros(4), np.zeros(4, bool), np.zeros((4, 4), np.uint8).T[1:], read_only()]
)
def test_an_array_that_cannot_be_filled_is_refused(out):
    with pytest.raises(ConfigError, match="contiguous arrays of whole numbers"):
        KeyStream(KEY).fill(out)


def test_two_keys_give_two_streams_without_a_trace_of_each_other():
    one = KeyStream(derive_key(KEY, "a")).words(1 << 16, np.uint8)
    other = KeyStream(derive_key(KEY, "b")).words(1 << 16, np.uint8)
    # Each of the 2^19 bits agrees with probability 1/2: a standard deviation is 362 bits.
    agreed = (1 << 19) - int(np.unpackbits(one ^ other).sum())
    assert abs(agreed - (1 << 18)) < 4 * 362


def test_bytes_of_the_stream_are_uniform():
    counts = np.bincount(KeyStream(KEY).words(1 << 20, np.uint8), minlength=256)
    chi_square = float(((counts - 4096) ** 2 / 4096).sum())
    assert 180 < chi_square < 345  # 255 degrees of freedom: mean 255, deviation 22.6


def test_uniform_has_the_moments_and_never_the_ends():
    drawn = KeyStream(KEY).uniform(1 << 20)
    assert 0 < drawn.min() < 1e-5
    assert 1 - 1e-5 < drawn.max() < 1
    assert abs(drawn.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / drawn.size)
    assert abs((drawn**2).mean() - 1 / 3) < 4 * np.sqrt(4 / 45 / drawn.size)
    counts = np.histogram(drawn, 64, (0, 1))[0]
    assert float(((counts - 16384) ** 2 / 16384).sum()) < 63 + 4 * np.sqrt(2 * 63)


@pytest.mark.parametrize(("word", "number"), [(0, 2.0**-53), ((1 << 64) - 1, 1 - 2.0**-53)])
def test_uniform_stays_inside_even_for_the_outermost_words(monkeypatch, word, number):
    monkeypatch.setattr(KeyStream, "words", lambda self, count, dtype: np.full(count, word, dtype))
    assert KeyStream(KEY).uniform(1).tolist() == [number]


@given(NAMES, NAMES)
def test_keys_differ_where_names_do(one, other):
    same = derive_key(KEY, *one) == derive_key(KEY, *other)
    assert same == (list(map(repr, one)) == list(map(repr, other)))


def test_a_derived_key_is_hkdf_of_the_names():
    expected = HKDF(SHA256(), 32, salt=b"umbel-key", info=b"s5:noisei2:-3b1:\x00").derive(KEY)
    assert derive_key(KEY, "noise", -3, b"\x00") == expected


def test_a_derived_key_hangs_on_the_secret():
    assert derive_key(KEY, "a") != derive_key(fresh_key(), "a")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_refused(size):
    with pytest.raises(ConfigError, match=f"32 bytes, got {size}"):
        KeyStream(bytes(size))


def test_a_short_secret_is_refused():
    with pytest.raises(ConfigError, match="at least 16 bytes"):
        derive_key(b"password", "a")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    with pytest.raises(MissingDependency, match=r"umbel\[dp\]"):
        KeyStream(KEY)
