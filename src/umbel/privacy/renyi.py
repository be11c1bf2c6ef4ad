"""Rényi bounds that no accounting library has: noise of whole numbers, and Poisson sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from umbel.privacy.events import DiscreteGaussianEvent, SkellamEvent

Curve = NDArray[np.float64]
"""The Rényi divergence at each of some orders."""


def skellam_curve(event: SkellamEvent, orders: Sequence[float], distance: float = 1.0) -> Curve:
    """Return the Rényi divergence of one Skellam release, without sampling.

    Agarwal, Kairouz and Liu 2021 (arXiv:2110.04995), corollary 4.1 at the scale 1. It is proved for
    whole orders; since divergences rise with the order, others take the next whole one.

    Parameters
    ----------
    event : SkellamEvent
        The noise and the sensitivities.
    orders : sequence of float
        Each above 1.
    distance : float
        How many times the sensitivities neighbours are apart: 2 under replace-one adjacency.

    Examples
    --------
    >>> skellam_curve(SkellamEvent(1e6, 10.0, 100.0), [2, 3]).round(7).tolist()
    [0.0001, 0.00015]
    """
    whole = np.ceil(np.asarray(orders, dtype=np.float64))
    square = (event.sensitivity * distance) ** 2
    absolute = event.sensitivity_l1 * distance
    fine = ((2 * whole - 1) * square + 6 * absolute) / (4 * event.variance**2)
    coarse = 3 * absolute / (2 * event.variance)
    return whole * square / (2 * event.variance) + np.minimum(fine, coarse)


def discrete_gaussian_curve(
    event: DiscreteGaussianEvent, orders: Sequence[float], distance: float = 1.0
) -> Curve:
    """Return the Rényi divergence of one discrete Gaussian release, without sampling.

    One part is as good as a continuous Gaussian (Canonne, Kamath and Steinke 2020,
    arXiv:2004.00010, theorem 4). A sum of parts is not quite a discrete Gaussian; what that costs
    is ``tau`` of Kairouz, Liu and Steinke 2021 (arXiv:2102.06387, proposition 14).

    Parameters
    ----------
    event : DiscreteGaussianEvent
        The noise and the sensitivities.
    orders : sequence of float
        Each above 1.
    distance : float
        How many times the sensitivities neighbours are apart: 2 under replace-one adjacency.

    Examples
    --------
    >>> discrete_gaussian_curve(DiscreteGaussianEvent(10.0, 10.0, 99.0, 500), [2, 4]).tolist()
    [1.0, 2.0]
    """
    order = np.asarray(orders, dtype=np.float64)
    sigma = event.sigma * math.sqrt(event.parts)
    l1, l2 = (distance * s / sigma for s in (event.sensitivity_l1, event.sensitivity))
    tau = _excess(event.sigma, event.parts)
    halves = order / 2
    bounds = (
        halves * l2**2 + tau * event.dimension,
        halves * (l2**2 + 2 * l1 * tau + tau**2 * event.dimension),
        halves * (l2 + math.sqrt(event.dimension) * tau) ** 2,
    )
    least: Curve = np.minimum.reduce(bounds)
    return least


def _excess(sigma: float, parts: int) -> float:
    k = np.arange(1, parts, dtype=np.float64)
    return float(10 * np.exp(-2 * (math.pi * sigma) ** 2 * k / (k + 1)).sum())


def poisson_curve(rate: float, whole_curve: Curve, orders: Sequence[float]) -> Curve:
    """Return the Rényi divergence of a release whose units are Poisson sampled.

    Steinke 2022 (arXiv:2210.00597), theorem 29, for add-or-remove-one and zero-out adjacency: for
    any mechanism, given its divergence at the whole orders up to the largest one asked for.

    Parameters
    ----------
    rate : float
        The probability with which each unit takes part.
    whole_curve : ndarray of float64, shape (largest - 1,)
        The mechanism's divergence at the orders 2, 3, ..., largest.
    orders : sequence of float
        Each above 1; one that is not whole takes the next whole one.

    Examples
    --------
    >>> curve = np.arange(2, 5) / 2  # a Gaussian with the noise multiplier 1
    >>> poisson_curve(0.01, curve, [2, 4]).round(6).tolist()
    [0.000172, 0.000363]
    """
    if rate == 1:
        return np.asarray([whole_curve[math.ceil(order) - 2] for order in orders])
    known: dict[int, float] = {}
    for order in {math.ceil(order) for order in orders}:
        known[order] = _poisson_divergence(rate, order, whole_curve)
    return np.asarray([known[math.ceil(order)] for order in orders])


def _poisson_divergence(rate: float, order: int, whole_curve: Curve) -> float:
    k = np.arange(2, order + 1, dtype=np.float64)
    log_binomial = np.asarray(
        [math.lgamma(order + 1) - math.lgamma(i + 1) - math.lgamma(order - i + 1) for i in k]
    )
    some = log_binomial + (order - k) * math.log1p(-rate) + k * math.log(rate)
    some += (k - 1) * whole_curve[: order - 1]
    none = (order - 1) * math.log1p(-rate) + math.log1p((order - 1) * rate)
    return max(0.0, float(np.logaddexp.reduce([none, *some])) / (order - 1))
