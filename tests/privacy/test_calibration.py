import math

import pytest

from umbel.base import ConfigError
from umbel.privacy import (
    FixedSize,
    LaplaceEvent,
    NoAmplification,
    Poisson,
    calibrate,
    gaussian_sigma,
)

PLANS = [
    (1, NoAmplification(), 0.5, "pld"),
    (1000, NoAmplification(), 0.01, "pld"),
    (100, NoAmplification(), 3.0, "rdp"),
    pytest.param(200, Poisson(0.02), 2.0, "rdp", marks=pytest.mark.slow),
    pytest.param(50, Poisson(0.05), 1.0, "pld", marks=pytest.mark.slow),
    pytest.param(10, FixedSize(10, 1000), 1.0, "rdp", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("rounds", "sampling", "epsilon", "accountant"), PLANS)
def test_each_of_the_three_follows_from_the_other_two(rounds, sampling, epsilon, accountant):
    delta = 1e-6
    plan = calibrate(rounds, sampling, epsilon=epsilon, delta=delta, accountant=accountant)
    assert 0.999 * epsilon < plan.epsilon <= epsilon
    noise = plan.noise_multiplier
    back = calibrate(rounds, sampling, noise_multiplier=noise, delta=delta, accountant=accountant)
    assert back.epsilon == plan.epsilon
    third = calibrate(
        rounds, sampling, noise_multiplier=noise, epsilon=plan.epsilon, accountant=accountant
    )
    assert third.delta == pytest.approx(delta, rel=1e-3)
    less = calibrate(
        rounds, sampling, noise_multiplier=noise * 0.999, delta=delta, accountant=accountant
    )
    assert less.epsilon > epsilon


def test_one_gaussian_gets_the_analytic_noise():
    plan = calibrate(1, NoAmplification(), epsilon=1.0, delta=1e-5)
    assert plan.noise_multiplier == pytest.approx(gaussian_sigma(1.0, 1e-5), rel=2e-4)
    assert plan.noise_multiplier >= gaussian_sigma(1.0, 1e-5)
    assert (plan.adjacency, plan.accountant) == ("zero-out", "pld")


def test_rounds_without_amplification_add_like_one_over_the_variance():
    one, many = (
        calibrate(n, NoAmplification(), epsilon=1.0, delta=1e-5).noise_multiplier for n in (1, 64)
    )
    assert many == pytest.approx(8 * one, rel=2e-4)


def test_laplace_noise_can_be_asked_for():
    plan = calibrate(
        1, NoAmplification(), epsilon=1.0, delta=1e-9, mechanism=LaplaceEvent, accountant="rdp"
    )
    assert plan.noise_multiplier <= 1.1  # pure differential privacy needs 1


def test_not_two_of_three_is_refused():
    for given in (
        {"epsilon": 1.0},
        {},
        {"epsilon": 1.0, "delta": 1e-5, "noise_multiplier": 1.0},
    ):
        with pytest.raises(ConfigError, match="two of epsilon, delta and noise_multiplier"):
            calibrate(1, NoAmplification(), **given)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
def test_numbers_that_mean_nothing_are_refused(bad):
    with pytest.raises(ConfigError, match="epsilon"):
        calibrate(1, NoAmplification(), epsilon=bad, delta=1e-5)
    with pytest.raises(ConfigError, match="delta"):
        calibrate(1, NoAmplification(), epsilon=1.0, delta=bad)
    with pytest.raises(ConfigError, match="noise_multiplier"):
        calibrate(1, NoAmplification(), noise_multiplier=bad, delta=1e-5)
    with pytest.raises(ConfigError, match="rounds"):
        calibrate(bad, NoAmplification(), epsilon=1.0, delta=1e-5)


@pytest.mark.parametrize("epsilon", [1e-12, 1e9])
def test_what_no_noise_gives_is_said(epsilon):
    with pytest.raises(ConfigError, match="no noise multiplier between"):
        calibrate(1, NoAmplification(), epsilon=epsilon, delta=1e-12)
