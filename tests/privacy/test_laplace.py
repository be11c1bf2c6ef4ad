import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from umbel.base import ConfigError, KeyStream
from umbel.privacy import laplace_delta, laplace_epsilon, laplace_scale
from umbel.privacy.laplace import fill_laplace


def integrated(scale, epsilon, shifts):
    """Delta by its definition, on a grid, for neighbours whose coordinates differ by ``shifts``."""
    axis = np.linspace(-14 * scale, 14 * scale + sum(shifts), 1401)
    step = axis[1] - axis[0]
    one = other = np.ones(())
    for shift in shifts:
        one = np.multiply.outer(one, stats.laplace.pdf(axis, shift, scale) * step)
        other = np.multiply.outer(other, stats.laplace.pdf(axis, 0, scale) * step)
    return float(np.maximum(one - math.exp(epsilon) * other, 0).sum())


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 1.4, 3.0])
def test_delta_is_the_integral_that_defines_it(epsilon):
    for scale, sensitivity in ((1.0, 1.0), (0.7, 1.0), (2.0, 4.0)):
        expected = integrated(scale, epsilon, [sensitivity])
        assert laplace_delta(scale, epsilon, sensitivity) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("shifts", [[0.5, 0.5], [0.9, 0.1]])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 0.9])
def test_a_distance_spread_over_coordinates_costs_no_more(shifts, epsilon):
    assert integrated(1.0, epsilon, shifts) < laplace_delta(1.0, epsilon, 1.0) + 1e-3


@given(st.floats(0.01, 20), st.floats(0, 0.9), st.floats(0.01, 100))
def test_scale_epsilon_and_delta_fit_together(epsilon, delta, sensitivity):
    scale = laplace_scale(epsilon, delta, sensitivity)
    assert laplace_epsilon(scale, delta, sensitivity) == pytest.approx(epsilon, rel=1e-9)
    assert laplace_delta(scale, epsilon, sensitivity) == pytest.approx(delta, abs=1e-12)
    assert laplace_delta(scale, sensitivity / scale, sensitivity) == 0


def test_a_large_delta_needs_no_epsilon():
    assert laplace_epsilon(scale=10.0, delta=0.5) == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: laplace_delta(1.0, math.nan),
        lambda: laplace_delta(0.0, 1.0),
        lambda: laplace_scale(0.0),
        lambda: laplace_scale(1.0, 1.0),
        lambda: laplace_epsilon(math.nan),
        lambda: laplace_epsilon(1.0, -0.1),
    ],
)
def test_numbers_that_guarantee_nothing_are_refused(call):
    with pytest.raises(ConfigError):
        call()


def test_noise_has_the_laplace_distribution():
    drawn = np.empty((1 << 18) + 3)
    fill_laplace(drawn, 2.0, KeyStream(bytes(32)))
    drawn /= 2.0
    for power, moment, variance in ((1, 0, 2), (2, 2, 20), (4, 24, 40320 - 576)):
        error = 4 * math.sqrt(variance / drawn.size)
        assert (drawn**power).mean() == pytest.approx(moment, abs=error)
    edges = stats.laplace.ppf(np.linspace(0, 1, 101))
    expected = drawn.size / 100
    chi_square = ((np.histogram(drawn, edges)[0] - expected) ** 2 / expected).sum()
    assert 0.001 < stats.chi2.sf(chi_square, 99) < 0.999
