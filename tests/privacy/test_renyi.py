import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant as DpRdpAccountant

from umbel.privacy import DiscreteGaussianEvent, Poisson, RdpAccountant, SkellamEvent
from umbel.privacy.renyi import discrete_gaussian_curve, poisson_curve, skellam_curve

ORDERS = [2, 3, 5, 8, 16, 40]


def divergence(p, q, order):
    """The Rényi divergence of two distributions on the same whole numbers, from its definition."""
    held = (p > 1e-290) & (q > 1e-290)
    terms = order * np.log(p[held]) + (1 - order) * np.log(q[held])
    return float(np.logaddexp.reduce(terms)) / (order - 1)


def skellam_weights(variance, reach):
    # The difference of two Poisson numbers, as the sum over the smaller one.
    mean = variance / 2
    k = np.arange(0, int(mean + 40 * math.sqrt(mean) + 60))
    log_poisson = k * math.log(mean) - mean - np.array([math.lgamma(i + 1) for i in k])
    poisson = np.exp(log_poisson)
    both = np.convolve(poisson, poisson[::-1])
    middle = len(poisson) - 1
    return both[middle - reach : middle + reach + 1]


@pytest.mark.parametrize(("variance", "shift"), [(40.0, 1), (40.0, 3), (200.0, 5), (1000.0, 10)])
def test_the_skellam_bound_holds_and_is_near(variance, shift):
    weights = skellam_weights(variance, reach=int(30 * math.sqrt(variance)))
    curve = skellam_curve(SkellamEvent(variance, shift, shift), [2, 3, 5])
    for order, bound in zip([2, 3, 5], curve, strict=True):
        true = divergence(weights[shift:], weights[:-shift], order)
        assert true <= bound < 1.2 * true


def test_the_skellam_bound_is_the_paper_s():
    # Corollary 4.1 of arXiv:2110.04995, by hand at order 3.
    event = SkellamEvent(variance=50.0, sensitivity=4.0, sensitivity_l1=12.0)
    fine = ((2 * 3 - 1) * 16 + 6 * 12) / (4 * 50.0**2)
    by_hand = 3 * 16 / 100 + min(fine, 3 * 12 / 100)
    assert skellam_curve(event, [3]) == pytest.approx([by_hand], rel=1e-14)
    assert skellam_curve(event, [2.3]) == skellam_curve(event, [3])


@pytest.mark.parametrize(("sigma", "shift"), [(1.0, 1), (3.0, 2), (10.0, 7)])
def test_the_discrete_gaussian_bound_holds_and_is_near(sigma, shift):
    x = np.arange(-int(35 * sigma), int(35 * sigma) + 1)
    weights = np.exp(-(x**2) / (2 * sigma**2))
    weights /= weights.sum()
    curve = discrete_gaussian_curve(DiscreteGaussianEvent(sigma, shift, shift, 1), [2, 4])
    for order, bound in zip([2, 4], curve, strict=True):
        true = divergence(weights[shift:], weights[:-shift], order)
        assert true <= bound * (1 + 1e-9)
        assert bound < 1.01 * true


@pytest.mark.parametrize("sigma", [0.4, 0.6, 1.0])
def test_the_bound_on_a_sum_of_discrete_gaussians_holds(sigma):
    x = np.arange(-40, 41)
    part = np.exp(-(x**2) / (2 * sigma**2))
    part /= part.sum()
    whole = part
    for _ in range(3):
        whole = np.convolve(whole, part)
    event = DiscreteGaussianEvent(sigma, 1.0, 1.0, 1, parts=4)
    for order, bound in zip([2, 3], discrete_gaussian_curve(event, [2, 3]), strict=True):
        middle = slice(len(whole) // 2 - 9, len(whole) // 2 + 10)
        true = divergence(whole[1:][middle], whole[:-1][middle], order)
        assert true <= bound


def test_parts_add_up_to_one_gaussian_when_each_is_wide():
    many = discrete_gaussian_curve(DiscreteGaussianEvent(5.0, 10.0, 50.0, 1000, 16), ORDERS)
    one = discrete_gaussian_curve(DiscreteGaussianEvent(20.0, 10.0, 50.0, 1000), ORDERS)
    np.testing.assert_allclose(many, one, rtol=1e-12)


@pytest.mark.parametrize(("noise", "rate"), [(1.0, 0.01), (2.5, 0.3), (0.7, 1e-4)])
def test_poisson_sampling_of_a_gaussian_is_what_dp_accounting_says(noise, rate):
    known = np.arange(2, max(ORDERS) + 1) / (2 * noise**2)
    event = PoissonSampledDpEvent(rate, GaussianDpEvent(noise))
    theirs = DpRdpAccountant(orders=ORDERS).compose(event).rdp
    np.testing.assert_allclose(poisson_curve(rate, known, ORDERS), theirs, rtol=1e-9)


def test_sampling_amplifies_and_all_of_them_is_no_sampling():
    def epsilon(sampling):
        return RdpAccountant().compose(SkellamEvent(1e4, 100.0, 900.0, sampling), 20).epsilon(1e-6)

    plain = RdpAccountant().compose(SkellamEvent(1e4, 100.0, 900.0), 20).epsilon(1e-6)
    assert epsilon(Poisson(0.01)) < epsilon(Poisson(0.1)) < epsilon(Poisson(1.0)) == plain
    known = np.arange(2, 41) / 2
    assert poisson_curve(1.0, known, [2, 2.5, 40]).tolist() == [1.0, 1.5, 20.0]


def test_wide_noise_of_whole_numbers_costs_what_a_gaussian_does():
    skellam = skellam_curve(SkellamEvent(1e10, 1e4, 1e5), ORDERS)
    np.testing.assert_allclose(skellam, np.array(ORDERS) * 1e8 / 2e10, rtol=1e-2)
    replaced = skellam_curve(SkellamEvent(1e10, 1e4, 1e5), ORDERS, distance=2)
    np.testing.assert_allclose(replaced, 4 * skellam, rtol=1e-2)
