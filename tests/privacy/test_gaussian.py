import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from umbel.base import ConfigError, KeyStream
from umbel.privacy import gaussian_delta, gaussian_epsilon, gaussian_sigma
from umbel.privacy.gaussian import _mills, fill_gaussian

SIGMAS, EPSILONS = st.floats(0.05, 50), st.floats(0, 20)


def integrated(sigma, epsilon, sensitivity):
    """Delta by its definition: the integral of what one density has above exp(epsilon) the other's.

    It is above where ``x > sigma^2 epsilon / sensitivity + sensitivity / 2``.
    """
    start = sigma**2 * epsilon / sensitivity + sensitivity / 2
    x = np.linspace(start, start + 12 * sigma + sensitivity, 20_001)
    one = stats.norm.pdf(x, sensitivity, sigma)
    return float(np.trapezoid(one - np.exp(epsilon) * stats.norm.pdf(x, 0, sigma), x))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("sensitivity", [0.5, 1.0, 2.0])
def test_delta_is_the_integral_that_defines_it(sigma, epsilon, sensitivity):
    expected = integrated(sigma, epsilon, sensitivity)
    assert gaussian_delta(sigma, epsilon, sensitivity) == pytest.approx(
        expected, rel=1e-5, abs=1e-13
    )


@pytest.mark.parametrize("sigma", [0.1, 0.7, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, 10.0, 50.0])
def test_delta_is_theorem_8_in_the_open_and_in_the_tail(sigma, epsilon):
    # log Phi keeps its digits where Phi would be rounded away.
    near = special.log_ndtr(0.5 / sigma - epsilon * sigma)
    far = special.log_ndtr(-0.5 / sigma - epsilon * sigma) + epsilon
    expected = math.exp(near) * -math.expm1(far - near)
    assert gaussian_delta(sigma, epsilon) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_the_mills_ratio_keeps_its_digits():
    for x in np.concatenate([np.linspace(0, 12, 241), [4.999999, 50, 1e3, 1e10]]):
        expected = math.sqrt(math.pi / 2) * special.erfcx(x / math.sqrt(2))
        assert _mills(float(x)) == pytest.approx(expected, rel=1e-13)


def test_known_values():
    # Phi(-1/2) - e Phi(-3/2), and Phi(1/2) - Phi(-1/2).
    assert gaussian_delta(1.0, 1.0) == pytest.approx(0.12693673750664397, rel=1e-13)
    assert gaussian_delta(1.0, 0.0) == pytest.approx(0.38292492254802624, rel=1e-13)
    assert gaussian_sigma(1.0, 1e-5) == pytest.approx(3.730631634944, rel=1e-6)


def test_another_library_gives_the_same_sigma():
    accountant = pytest.importorskip("dp_accounting.pld.privacy_loss_mechanism")
    for epsilon, delta in ((0.1, 1e-6), (1.0, 1e-5), (8.0, 1e-7)):
        loss = accountant.GaussianPrivacyLoss.from_privacy_guarantee(
            accountant.common.DifferentialPrivacyParameters(epsilon, delta)
        )
        assert gaussian_sigma(epsilon, delta) == pytest.approx(loss.standard_deviation, rel=1e-4)


@given(st.floats(0.01, 30), st.floats(1e-12, 0.4), st.floats(0.01, 100))
@settings(max_examples=30)
def test_sigma_is_enough_and_hardly_more_is_needed(epsilon, delta, sensitivity):
    sigma = gaussian_sigma(epsilon, delta, sensitivity)
    assert gaussian_delta(sigma, epsilon, sensitivity) <= delta * (1 + 1e-9)
    assert gaussian_delta(sigma * (1 - 1e-6), epsilon, sensitivity) > delta
    classic = sensitivity * math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    assert epsilon > 1 or sigma < classic


@given(SIGMAS, st.floats(1e-12, 0.4))
@settings(max_examples=30)
def test_epsilon_is_enough_and_hardly_less_would_be(sigma, delta):
    epsilon = gaussian_epsilon(sigma, delta)
    assert gaussian_delta(sigma, epsilon) <= delta
    if epsilon:
        assert gaussian_delta(sigma, epsilon * (1 - 1e-6)) > delta
    else:
        assert gaussian_delta(sigma, 0.0) <= delta


@given(SIGMAS, EPSILONS, st.floats(1.001, 3))
def test_more_noise_or_a_larger_epsilon_is_less_delta(sigma, epsilon, more):
    delta = gaussian_delta(sigma, epsilon)
    assert 0 <= delta <= 1
    assert gaussian_delta(sigma * more, epsilon) <= delta
    assert gaussian_delta(sigma, epsilon * more) <= delta * (1 + 1e-12)
    assert gaussian_delta(sigma * more, epsilon, more) == pytest.approx(delta, rel=1e-6, abs=1e-200)


@pytest.mark.parametrize(
    "call",
    [
        lambda: gaussian_delta(0.0, 1.0),
        lambda: gaussian_delta(math.nan, 1.0),
        lambda: gaussian_delta(1.0, -1.0),
        lambda: gaussian_delta(1.0, math.nan),
        lambda: gaussian_delta(1.0, 1.0, math.inf),
        lambda: gaussian_sigma(1.0, 0.0),
        lambda: gaussian_sigma(1.0, 1.0),
        lambda: gaussian_sigma(math.inf, 1e-5),
        lambda: gaussian_sigma(math.nan, 1e-5),
        lambda: gaussian_epsilon(1.0, math.nan),
    ],
)
def test_numbers_that_guarantee_nothing_are_refused(call):
    with pytest.raises(ConfigError):
        call()


def normals(count, sigma=1.0, dtype=np.float64, key=bytes(32)):
    out = np.empty(count, dtype)
    fill_gaussian(out, sigma, KeyStream(key))
    return out


def test_noise_is_normal():
    drawn = normals(1 << 19, 3.0) / 3.0
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        error = 4 * math.sqrt(variance / drawn.size)
        assert (drawn**power).mean() == pytest.approx(moment, abs=error)
    edges = stats.norm.ppf(np.linspace(0, 1, 101))
    counts = np.histogram(drawn, edges)[0]
    chi_square = ((counts - drawn.size / 100) ** 2 / (drawn.size / 100)).sum()
    assert 0.001 < stats.chi2.sf(chi_square, 99) < 0.999
    assert stats.kstest(drawn[:50_000], "norm").pvalue > 0.01


def test_neighbours_in_an_array_are_independent():
    drawn = normals(1 << 18)
    half = 1 << 13  # sine and cosine of one pair lie this far apart
    for lag in (1, 2, half):
        for one, other in ((drawn[lag:], drawn[:-lag]), (drawn[lag:] ** 2, drawn[:-lag] ** 2)):
            assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(drawn.size)


@pytest.mark.parametrize("count", [0, 1, 2, 3, (1 << 14) - 1, 1 << 14, (1 << 14) + 1, 40_001])
def test_every_size_is_filled(count):
    drawn = normals(count)
    assert np.isfinite(drawn).all()
    assert np.unique(drawn).size == count
    assert np.array_equal(normals(count, dtype=np.float32), drawn.astype(np.float32))
