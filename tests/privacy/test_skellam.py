import math

import numpy as np
import pytest
from scipy import special, stats

from umbel.base import ConfigError, KeyStream, derive_key
from umbel.privacy.skellam import _log_weights, expanded_log_weight, skellam


def stream(*names):
    return KeyStream(derive_key(bytes(32), *names))


def test_weights_are_bessel_functions():
    for variance in (1e-3, 0.5, 3.0, 200.0, 999.0):
        reach = 4 + int(9 * math.sqrt(variance))
        expected = special.ive(np.arange(reach), variance) / special.ive(0, variance)
        np.testing.assert_allclose(np.exp(_log_weights(variance, 3000)[:reach]), expected, 1e-12)


@pytest.mark.parametrize("variance", [1000.0, 1234.5, 1e6])
def test_the_expansion_is_the_recurrence(variance):
    sizes = np.arange(int(12 * math.sqrt(variance)) + 1)
    expanded = expanded_log_weight(sizes.astype(float), variance)
    recurrent = _log_weights(variance, 20 * sizes.size)[: sizes.size]
    np.testing.assert_allclose(expanded - expanded[0], recurrent, rtol=1e-12, atol=1e-13)


def test_a_wide_distribution_is_gaussian_without_loss_of_digits():
    variance = 2.0**72
    sizes = 2.0**36 * np.arange(0.0, 9.0)
    expanded = expanded_log_weight(sizes, variance)
    np.testing.assert_allclose(expanded - expanded[0], -(np.arange(9.0) ** 2) / 2, rtol=1e-14)


def p_value(drawn, variance):
    reach = math.ceil(6 * math.sqrt(variance)) + 3
    probabilities = stats.skellam.pmf(np.arange(-reach, reach + 1), variance / 2, variance / 2)
    seen = np.bincount(np.clip(drawn, -reach, reach) + reach, minlength=2 * reach + 1)
    thick = probabilities * drawn.size >= 10
    expected = probabilities[thick] * drawn.size
    return stats.chi2.sf(((seen[thick] - expected) ** 2 / expected).sum(), thick.sum() - 1)


@pytest.mark.parametrize("variance", [0.1, 1.0, 4.0, 150.0, 999.9, 1000.1, 4000.0])
def test_draws_have_the_distribution(variance):
    drawn = skellam(200_000, variance, stream("draws"))
    assert 0.001 < p_value(drawn, variance) < 0.9999


@pytest.mark.parametrize("variance", [0.3, 900.0, 1e5, 1e18])
def test_moments(variance):
    drawn = skellam(200_000, variance, stream("moments")) / math.sqrt(variance)
    fourth = 3 + 1 / variance
    sixth_and_eighth = (15 + 25 / variance + 1 / variance**2, 105 + 490 / variance)
    assert drawn.mean() == pytest.approx(0, abs=4 / math.sqrt(drawn.size))
    error = 4 * math.sqrt((fourth - 1) / drawn.size)
    assert (drawn**2).mean() == pytest.approx(1, abs=error)
    error = 5 * math.sqrt((sixth_and_eighth[1] + 120 / variance**2 + 1 / variance**3) / drawn.size)
    assert (drawn**4).mean() == pytest.approx(fourth, abs=error)


def test_a_sum_of_parts_is_skellam_of_the_whole():
    parts = sum(skellam(200_000, 0.5, stream("part", i)) for i in range(8))
    assert 0.001 < p_value(parts, 4.0) < 0.9999


@pytest.mark.parametrize("scale", [1, 5, 31])
def test_no_size_has_a_chance_above_one(monkeypatch, scale):
    chances = []

    def look(count, scale, stream, log_chance):
        chances.append(log_chance(np.arange(50.0 * scale)).max())

    monkeypatch.setattr("umbel.privacy.skellam.thinned_laplace", look)
    for variance in (0.3 * scale**2, 1.0 * scale**2, 1000 + scale**2, 1e6 * scale):
        skellam(1, variance, stream("chance"))
    assert max(chances) <= 1e-14
    assert min(chances) > -1e-3  # and none is thrown away without need


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan, math.inf, 2.0**80])
def test_a_variance_out_of_range_is_refused(variance):
    with pytest.raises(ConfigError):
        skellam(1, variance, stream("range"))
