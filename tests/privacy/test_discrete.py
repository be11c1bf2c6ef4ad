import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from umbel.base import ConfigError, KeyStream, derive_key
from umbel.privacy.discrete import (
    _exact_geometric,
    _exactly_below,
    discrete_gaussian,
    geometric,
    thinned_laplace,
)

KEY = bytes(32)


def stream(*names):
    return KeyStream(derive_key(KEY, *names))


def fits(drawn, weights):
    """The p-value of draws against weights of ``-k .. k``; the thin tails are joined."""
    reach = len(weights) // 2
    expected = weights / weights.sum() * drawn.size
    seen = np.bincount(np.clip(drawn, -reach, reach) + reach, minlength=len(weights))
    thick = expected >= 10
    seen = np.append(seen[thick], seen[~thick].sum())
    expected = np.append(expected[thick], expected[~thick].sum())
    if expected[-1] < 10:
        seen, expected = seen[:-1], expected[:-1]
    return stats.chi2.sf(((seen - expected) ** 2 / expected).sum(), len(seen) - 1)


def gaussian_weights(sigma):
    size = np.arange(-math.ceil(12 * sigma) - 1, math.ceil(12 * sigma) + 2)
    return np.exp(-(size**2) / (2 * sigma**2))


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 1.7, 2.0, 12.3])
def test_draws_have_the_weights_of_the_discrete_gaussian(sigma):
    drawn = discrete_gaussian(200_000, sigma, stream("weights"))
    assert 0.001 < fits(drawn, gaussian_weights(sigma)) <= 1


@pytest.mark.parametrize("sigma", [1.0, 50.0, 1e4, 3e9])
def test_moments_are_the_gaussians(sigma):
    drawn = discrete_gaussian(200_000, sigma, stream("moments")) / sigma
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        error = 4 * math.sqrt(variance / drawn.size) + 1e-5
        assert (drawn**power).mean() == pytest.approx(moment, abs=error)


def test_a_large_sigma_has_no_gaps():
    # Every residue comes as often as any other, to the last bit.
    drawn = discrete_gaussian(200_000, 2.0**33, stream("gaps"))
    counts = np.bincount(drawn & 63, minlength=64)
    assert 0.001 < stats.chisquare(counts).pvalue < 0.999


def exact_words(count, name):
    return [int(word) for word in stream(name).words(count, np.uint64)]


@pytest.mark.parametrize("scale", [1, 7, 1000])
def test_arithmetic_without_floats_gives_the_same_geometric_numbers(scale):
    words = exact_words(300, "geometric")
    drawn = geometric(np.array(words, np.uint64), scale, KEY)
    assert drawn.tolist() == [_exact_geometric(word, scale, KEY) for word in words]


def test_what_a_word_leaves_open_is_decided_by_further_bits():
    # u may be above or below exp(-1), of which these are the first 64 bits.
    below = Fraction("0.367879441171442321595523770161460867") * 2**64
    word, exact = math.floor(below), below % 1
    drawn = [_exact_geometric(word, 1, derive_key(KEY, i)) for i in range(200)]
    assert set(drawn) == {0, 1}
    assert abs(drawn.count(1) - 200 * exact) < 4 * math.sqrt(200 * exact * (1 - exact))
    words = np.full(1, word, np.uint64)
    assert geometric(words, 1, derive_key(KEY, 5))[0] == drawn[5]


def test_the_outermost_words_have_an_answer():
    ends = np.array([0, 2**64 - 1], np.uint64)
    longest, shortest = geometric(ends, 10, KEY).tolist()
    assert 64 * math.log(2) * 10 < longest < 130 * math.log(2) * 10
    assert shortest == 0


@given(st.integers(0, 2**63 - 1), st.fractions(-40, 0))
@settings(max_examples=50)
def test_arithmetic_without_floats_gives_the_same_decision(word, logarithm):
    uniform, chance = (word + 0.5) / 2**63, math.exp(logarithm)
    if abs(uniform - chance) > 1e-12:
        assert _exactly_below(word, logarithm, KEY) == (uniform < chance)


def test_a_decision_at_the_edge_takes_more_bits():
    below = Fraction("0.135335283236612691893999494972484403") * 2**63
    word, exact = math.floor(below), below % 1
    taken = sum(_exactly_below(word, Fraction(-2), derive_key(KEY, i)) for i in range(200))
    assert abs(taken - 200 * exact) < 4 * math.sqrt(200 * exact * (1 - exact))
    assert 0 < taken < 200


def test_a_decision_without_floats_gives_the_same_draws(monkeypatch):
    fast = discrete_gaussian(300, 2.5, stream("exact"))
    monkeypatch.setattr("umbel.privacy.discrete._TOO_NEAR", 2.0)
    assert np.array_equal(discrete_gaussian(300, 2.5, stream("exact")), fast)


def test_without_a_chance_to_be_dropped_it_is_discrete_laplace():
    drawn = thinned_laplace(200_000, 3, stream("laplace"), np.zeros_like)
    assert 0.001 < fits(drawn, np.exp(-np.abs(np.arange(-60, 61)) / 3)) < 0.999


@pytest.mark.parametrize("count", [0, 1, 2, 33_000])
def test_every_count_is_filled(count):
    drawn = discrete_gaussian(count, 1e6, stream("count"))
    assert drawn.dtype == np.int64
    assert drawn.shape == (count,)
    assert np.abs(drawn).max(initial=0) < 10_000_000


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, 2.0**37, 2.0**-37])
def test_a_sigma_out_of_range_is_refused(sigma):
    with pytest.raises(ConfigError, match="sigma"):
        discrete_gaussian(1, sigma, stream("range"))
