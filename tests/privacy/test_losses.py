"""Losses that are composed by spectra: exact where they can be, and never too small."""

import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as library
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.privacy import GaussianEvent, PldAccountant, Poisson
from umbel.privacy.losses import INTERVAL, Composed, KnownLosses

masses = st.lists(st.floats(0.01, 1), min_size=1, max_size=12)


def known(first, weights, step=1, infinite=1e-8):
    mass = np.array(weights)
    return KnownLosses(step, first, mass / mass.sum() * (1 - infinite), infinite)


def delta_by_hand(parts, epsilon, step=1):
    first, mass, finite = 0, np.ones(1), 1.0
    for (at, weights, infinite), count in parts:
        for _ in range(count):
            one = np.array(weights) / sum(weights) * (1 - infinite)
            first, mass, finite = first + at, np.convolve(mass, one), finite * (1 - infinite)
    losses = np.arange(first, first + mass.size) * step * INTERVAL
    return 1 - finite + float(mass @ np.maximum(0, -np.expm1(epsilon - losses)))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(-300, 3000), masses, st.integers(1, 5)), min_size=1, max_size=3),
    st.floats(0, 3),
)
def test_a_composition_is_the_convolution(parts, epsilon):
    composed = Composed([(known(at, weights), count) for at, weights, count in parts])
    by_hand = delta_by_hand([((at, w, 1e-8), count) for at, w, count in parts], epsilon)
    assert composed.delta(epsilon) == pytest.approx(by_hand, abs=1e-13)
    for delta in (1e-6, 0.01, 0.3):
        found = composed.epsilon(delta)
        assert composed.delta(found) <= delta * (1 + 1e-9)
        if found > 0:
            assert composed.delta(found * (1 - 1e-6)) > delta * (1 - 1e-6)


def test_what_is_infinite_is_at_no_epsilon():
    assert Composed([(known(5, [1.0], infinite=1e-3), 2)]).epsilon(1e-3) == math.inf


@pytest.mark.parametrize("first", [-7, 0, 5])
def test_a_coarser_grid_has_no_smaller_losses(first):
    weights = [0.1, 0.0, 0.3, 0.4, 0.2]
    for step in (2, 8):
        grid = known(first, weights, infinite=0.0).on(step)
        coarse = (grid.first + np.arange(grid.mass.size)) * step
        assert coarse @ grid.mass >= (first + np.arange(5)) @ np.array(weights)
        for place in range(first, first + 5):
            above = np.array(weights)[np.arange(first, first + 5) >= place].sum()
            assert grid.mass[coarse >= place].sum() >= above - 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "noise", "count"), [(0.1, 1.0, 1000), (0.01, 1.0, 3000)])
def test_a_long_run_is_between_the_library_s_bounds(rate, noise, count):
    """On a grid that had to be made coarser, as other parts of the run, and all at once."""
    event = GaussianEvent(noise, Poisson(rate))
    at_once = PldAccountant().compose(event, count).epsilon(1e-6)
    other = GaussianEvent(noise * (1 + 1e-9), Poisson(rate))
    in_parts = PldAccountant().compose(event, count // 2).compose(other, count // 4)
    mixed = in_parts.compose(event, count - count // 2 - count // 4).epsilon(1e-6)

    def bound(pessimistic):
        one = library.from_gaussian_mechanism(
            noise,
            sampling_prob=rate,
            pessimistic_estimate=pessimistic,
            value_discretization_interval=1e-4,
            use_connect_dots=pessimistic,
        )
        return one.self_compose(count).get_epsilon_for_delta(1e-6)

    above = bound(pessimistic=True)
    if count == 1000:  # what rounds down, rounds each of them down by half a place of the grid
        assert bound(pessimistic=False) <= at_once
    assert above * (1 - 1e-7) <= at_once <= above * (1 + 1e-4)
    assert above * (1 - 1e-7) <= mixed <= above + 2e-3
