"""Shamir's sharing: known answers, any threshold of shares, and nothing from fewer."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import KeyStream, SecAggAborted, fresh_key
from umbel.secagg.field import PRIME, evaluated, reduced, uniform_elements, weights_at_zero
from umbel.secagg.shamir import SHARE_BYTES, check_share, combine, split


def direct(coefficients, x):
    return sum(c * x**i for i, c in enumerate(coefficients)) % PRIME


def test_a_known_polynomial():
    # f(x) = 1234 + 166 x + 94 x^2, the example of many texts: f(1) = 1494, f(2) = 1942, ...
    column = np.array([[1234], [166], [94]], np.uint64)
    values = evaluated(column, np.arange(1, 7, dtype=np.uint64)).ravel().tolist()
    assert values == [1494, 1942, 2578, 3402, 4414, 5614]
    for points in combinations(range(1, 7), 3):
        weights = weights_at_zero(points)
        secret = sum(int(w) * values[p - 1] for w, p in zip(weights, points, strict=True)) % PRIME
        assert secret == 1234


def test_known_shares():
    # The stream of AES-256 under the key of zeros begins with dc95c078 a2408989 ad48a214.
    drawn = [0x78C095DC, 0x898940A2 & PRIME, 0x14A248AD]
    shares = split((1).to_bytes(32, "little"), 3, 2, KeyStream(bytes(32)))
    for x, share in enumerate(shares, 1):
        limbs = np.frombuffer(share, "<u4")[:3].tolist()
        assert limbs == [(1 + x * drawn[0]) % PRIME, x * drawn[1] % PRIME, x * drawn[2] % PRIME]


@given(
    numbers=st.lists(st.integers(0, PRIME - 1), min_size=1, max_size=6),
    points=st.lists(st.integers(0, PRIME - 1), min_size=1, max_size=4),
)
def test_polynomials_against_whole_numbers(numbers, points):
    column = np.array(numbers, np.uint64)[:, None]
    values = evaluated(column, np.array(points, np.uint64)).ravel().tolist()
    assert values == [direct(numbers, x) for x in points]


@given(st.lists(st.integers(0, (1 << 63) - 1), min_size=1))
def test_remainders_against_whole_numbers(numbers):
    assert reduced(np.array(numbers, np.uint64)).tolist() == [n % PRIME for n in numbers]


@given(secret=st.binary(min_size=32, max_size=32), data=st.data())
def test_any_threshold_of_shares_gives_the_secret(secret, data):
    holders = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, holders))
    shares = split(secret, holders, threshold, KeyStream(fresh_key()))
    points = data.draw(st.permutations(range(1, holders + 1)))[:threshold]
    assert combine(points, [[shares[p - 1] for p in points]]) == [secret]


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_several_secrets_are_shared_and_opened_at_once(secret):
    other = bytes(range(32))
    shares = split(secret + other, 200, 101, KeyStream(fresh_key()))
    points = range(50, 151)
    halves = [
        [shares[p - 1][:SHARE_BYTES] for p in points],
        [shares[p - 1][SHARE_BYTES:] for p in points],
    ]
    assert combine(points, halves) == [secret, other]


def test_fewer_shares_fit_every_secret():
    # Whatever the secret's limb might be, there is exactly one polynomial through it and the shares
    # known: so they say nothing. Here for 2 of 3 shares needed, for both a limb of 5 and of 9.
    known = split((5).to_bytes(32, "little"), 3, 3, KeyStream(fresh_key()))[:2]
    first, second = (int(np.frombuffer(share, "<u4")[0]) for share in known)
    for guess in (5, 9):
        weights = weights_at_zero([1, 2, 3])
        rest = guess - int(weights[0]) * first - int(weights[1]) * second
        third = rest * pow(int(weights[2]), -1, PRIME) % PRIME
        assert 0 <= third < PRIME
        values = np.array([first, second, third], np.uint64)
        assert int(reduced(weights * values).sum()) % PRIME == guess


def test_fewer_shares_give_bits_like_coin_tosses():
    secret = bytes(32)
    ones = 0
    for _ in range(50):
        shares = split(secret, 3, 3, KeyStream(fresh_key()))
        limbs = np.concatenate([np.frombuffer(share, "<u4") for share in shares[:2]])
        ones += sum(int(limb).bit_count() for limb in limbs)
    assert abs(ones / (50 * 18 * 31) - 0.5) < 0.02


def test_elements_are_uniform_and_below_the_prime():
    class Edge:
        """A stream whose first words are the one value that 31 bits have too many."""

        def __init__(self):
            self.first = True

        def words(self, count, dtype):
            words = np.full(count, PRIME if self.first else 7, dtype)
            self.first = False
            return words

    assert uniform_elements(Edge(), (2, 2)).tolist() == [[7, 7], [7, 7]]
    drawn = uniform_elements(KeyStream(bytes(32)), (1000,))
    assert drawn.max() < PRIME
    assert abs(drawn.mean() / PRIME - 0.5) < 0.05


@pytest.mark.parametrize(
    ("share", "complaint"),
    [
        (bytes(SHARE_BYTES - 1), "36 bytes"),
        (bytes(SHARE_BYTES + 1), "36 bytes"),
        (PRIME.to_bytes(4, "little") * 9, "outside the field"),
        (bytes(32) + b"\xff\xff\xff\xff", "outside the field"),
    ],
)
def test_what_is_no_share_is_refused(share, complaint):
    with pytest.raises(SecAggAborted, match=rf"{complaint}.*node: 4"):
        check_share(share, 4)


def test_a_wrong_share_gives_another_secret_or_none():
    secret = fresh_key()
    shares = split(secret, 3, 2, KeyStream(fresh_key()))
    (found,) = combine([1, 2], [[shares[0], shares[2]]])
    assert found != secret
    largest = (PRIME - 1).to_bytes(4, "little") * 9
    assert combine([1], [[largest]]) == [None]
