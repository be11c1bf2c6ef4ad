"""Norms, clipping and noise for lists of arrays, as Flower's helper functions do them."""

from __future__ import annotations

from typing import Any

import numpy as np

from umbel.base import fresh_key
from umbel.flwr.parameters import (
    NDArrays,
    Parameters,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from umbel.privacy import AdaptiveBound, NoiseSource, clip
from umbel.updates import is_whole

KEY_CLIPPING_NORM = "clipping_norm"
"""The setting that tells clients the bound."""

KEY_NORM_BIT = "norm_bit"
"""The metric that tells the server whether an update was clipped."""

CLIENTS_DISCREPANCY_WARNING = (
    "%s clients are asked, and num_sampled_clients is %s: the noise is that for those asked"
)


def get_norm(input_arrays: NDArrays) -> float:
    """Return the L2 norm of all arrays together.

    Examples
    --------
    >>> get_norm([np.array([3.0]), np.array([[4.0]])])
    5.0
    """
    return clip(_moving(input_arrays), 1.0).norm


def clip_inputs_inplace(input_arrays: NDArrays, clipping_norm: float) -> None:
    """Shorten arrays to a norm, all by the same factor; zeros stay zeros."""
    adaptive_clip_inputs_inplace(input_arrays, clipping_norm)


def adaptive_clip_inputs_inplace(input_arrays: NDArrays, clipping_norm: float) -> bool:
    """Shorten arrays to a norm, and return whether they were longer.

    Examples
    --------
    >>> update = [np.array([3.0, 4.0])]
    >>> adaptive_clip_inputs_inplace(update, 2.5), update[0].round(6).tolist()
    (True, [1.5, 2.0])
    """
    clipped = clip(_moving(input_arrays), clipping_norm)
    for place, value in clipped.update.items():
        input_arrays[int(place)][...] = value
    return not clipped.within


def compute_clip_model_update(param1: NDArrays, param2: NDArrays, clipping_norm: float) -> None:
    """Put the clipped difference of two models, added to the second, in place of the first."""
    compute_adaptive_clip_model_update(param1, param2, clipping_norm)


def compute_adaptive_clip_model_update(
    param1: NDArrays, param2: NDArrays, clipping_norm: float
) -> bool:
    """Do the same, and return whether the difference was longer than the norm."""
    update = [np.subtract(after, before) for after, before in zip(param1, param2, strict=True)]
    was_clipped = adaptive_clip_inputs_inplace(update, clipping_norm)
    param1[:] = [before + step for before, step in zip(param2, update, strict=True)]
    return was_clipped


def compute_stdv(noise_multiplier: float, clipping_norm: float, num_sampled_clients: int) -> float:
    """Return the standard deviation of the noise in a mean over so many clipped updates.

    Examples
    --------
    >>> compute_stdv(1.0, 0.5, 10)
    0.05
    """
    return float(noise_multiplier * clipping_norm / num_sampled_clients)


def compute_adaptive_noise_params(
    noise_multiplier: float, num_sampled_clients: float, clipped_count_stddev: float | None
) -> tuple[float, float]:
    """Return the noise in the count of clipped updates, and the multiplier left for the updates.

    Examples
    --------
    >>> compute_adaptive_noise_params(0.0, 10, None)
    (0.0, 0.0)
    >>> count, updates = compute_adaptive_noise_params(1.0, 100, None)
    >>> count, round(updates, 4)
    (5.0, 1.005)
    """
    if not noise_multiplier:
        return clipped_count_stddev or 0.0, 0.0
    sigma = num_sampled_clients / 20 if clipped_count_stddev is None else clipped_count_stddev
    return sigma, AdaptiveBound(count_sigma=sigma).split(noise_multiplier, 1)


def add_gaussian_noise_inplace(input_arrays: NDArrays, std_dev: float) -> None:
    """Add noise that nobody can foretell to the arrays of floating-point numbers."""
    moving = _moving(input_arrays)
    noise = NoiseSource(fresh_key(), seeded=False).gaussian(moving, std_dev)
    for place, value in noise.items():
        input_arrays[int(place)] += value.astype(moving[place].dtype)


def add_gaussian_noise_to_params(
    model_params: Parameters,
    noise_multiplier: float,
    clipping_norm: float,
    num_sampled_clients: int,
) -> Parameters:
    """Return a model with the noise that a mean over so many clipped updates takes."""
    arrays = parameters_to_ndarrays(model_params)
    stdv = compute_stdv(noise_multiplier, clipping_norm, num_sampled_clients)
    add_gaussian_noise_inplace(arrays, stdv)
    return ndarrays_to_parameters(arrays)


def _moving(arrays: NDArrays) -> dict[str, Any]:
    return {str(n): array for n, array in enumerate(arrays) if not is_whole(array.dtype)}
