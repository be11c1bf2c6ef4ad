"""Transforms of updates: pairs of pure functions with explicit state, composed like optax's.

A transform takes named arrays (the cohort's mean update) and gives named arrays (the step to
take). Its state is data, so that a checkpoint is the state and nothing hides in an object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from umbel.updates.arrays import Arrays, NDArray, sum_dtype

State = dict[str, Any]
"""Arrays, numbers and further states by name; a name holds no slash unless it is an array's."""


class Transform(NamedTuple):
    """A change of updates.

    Attributes
    ----------
    init : callable
        ``init(arrays) -> state`` for a model of these shapes.
    apply : callable
        ``apply(update, state) -> (update, state)``; neither argument is changed.
    """

    init: Callable[[Arrays], State]
    apply: Callable[[Arrays, State], tuple[Arrays, State]]


def chain(*transforms: Transform) -> Transform:
    """Return the transform that applies all of them in order.

    Examples
    --------
    >>> both = chain(scale(3.0), scale(2.0))
    >>> update = {"w": np.array([1.0])}
    >>> both.apply(update, both.init(update))[0]["w"].tolist()
    [6.0]
    """

    def init(arrays: Arrays) -> State:
        states = {str(i): t.init(arrays) for i, t in enumerate(transforms)}
        return {name: state for name, state in states.items() if state}

    def apply(update: Arrays, state: State) -> tuple[Arrays, State]:
        after: State = {}
        for i, transform in enumerate(transforms):
            update, own = transform.apply(update, state.get(str(i), {}))
            if own:
                after[str(i)] = own
        return update, after

    return Transform(init, apply)


def scale(factor: float) -> Transform:
    """Return the transform that multiplies by ``factor``.

    Examples
    --------
    >>> scale(0.5).apply({"w": np.array([4.0, 6.0])}, {})[0]["w"].tolist()
    [2.0, 3.0]
    """

    def apply(update: Arrays, state: State) -> tuple[Arrays, State]:
        return _each(lambda value: value * factor, update), state

    return Transform(lambda arrays: {}, apply)


def scale_by_schedule(factor: Callable[[int], float]) -> Transform:
    """Return the transform that multiplies by ``factor(step)``, with steps counted from 1.

    Examples
    --------
    >>> decayed = scale_by_schedule(lambda step: 1 / step)
    >>> state = decayed.init({})
    >>> for _ in range(2):
    ...     update, state = decayed.apply({"w": np.array([4.0])}, state)
    >>> update["w"].tolist(), state
    ([2.0], {'step': 2})
    """

    def apply(update: Arrays, state: State) -> tuple[Arrays, State]:
        step = state["step"] + 1
        by = factor(step)
        return _each(lambda value: value * by, update), {"step": step}

    return Transform(lambda arrays: {"step": 0}, apply)


def momentum(decay: float) -> Transform:
    """Return heavy-ball momentum: ``v = decay * v + update``, and ``v`` is the step.

    Hsu et al. 2019, arXiv:1909.06335.

    Examples
    --------
    >>> heavy = momentum(0.5)
    >>> update = {"w": np.array([1.0])}
    >>> first, state = heavy.apply(update, heavy.init(update))
    >>> heavy.apply(update, state)[0]["w"].tolist()
    [1.5]
    """

    def apply(update: Arrays, state: State) -> tuple[Arrays, State]:
        velocity = _each(lambda u, v: decay * v + u, update, state["v"])
        return velocity, {"v": velocity}

    return Transform(lambda arrays: {"v": zeros(arrays)}, apply)


def scale_by_adam(beta_1: float, beta_2: float, tau: float) -> Transform:
    """Return Adam's direction ``m / (sqrt(v) + tau)``, without correction of the bias.

    ``m = beta_1 m + (1 - beta_1) u`` and ``v = beta_2 v + (1 - beta_2) |u|^2`` for the update
    ``u``, both from zero: Reddi et al. 2021, arXiv:2003.00295, algorithm 2.

    Examples
    --------
    >>> adam = scale_by_adam(beta_1=0.5, beta_2=0.75, tau=1.0)
    >>> update = {"w": np.array([2.0])}
    >>> adam.apply(update, adam.init(update))[0]["w"].tolist()
    [0.5]
    """

    def init(arrays: Arrays) -> State:
        return {"m": zeros(arrays), "v": _real_zeros(arrays)}

    def apply(update: Arrays, state: State) -> tuple[Arrays, State]:
        m = _each(lambda u, m: beta_1 * m + (1 - beta_1) * u, update, state["m"])
        v = _each(lambda v, u: beta_2 * v + (1 - beta_2) * _squared(u), state["v"], update)
        return _each(lambda m, v: m / (np.sqrt(v) + tau), m, v), {"m": m, "v": v}

    return Transform(init, apply)


def scale_by_adagrad(tau: float) -> Transform:
    """Return Adagrad's direction ``u / (sqrt(v) + tau)`` with ``v = v + |u|^2``, from zero.

    Reddi et al. 2021, arXiv:2003.00295, algorithm 2.

    Examples
    --------
    >>> adagrad = scale_by_adagrad(tau=1.0)
    >>> update = {"w": np.array([3.0])}
    >>> adagrad.apply(update, adagrad.init(update))[0]["w"].tolist()
    [0.75]
    """

    def apply(update: Arrays, state: State) -> tuple[Arrays, State]:
        v = _each(lambda v, u: v + _squared(u), state["v"], update)
        return _each(lambda u, v: u / (np.sqrt(v) + tau), update, v), {"v": v}

    return Transform(lambda arrays: {"v": _real_zeros(arrays)}, apply)


def scale_by_yogi(beta_1: float, beta_2: float, tau: float) -> Transform:
    """Return Yogi's direction: Adam's, but ``v = v - (1 - beta_2) |u|^2 sign(v - |u|^2)``.

    Reddi et al. 2021, arXiv:2003.00295, algorithm 2.

    Examples
    --------
    >>> yogi = scale_by_yogi(beta_1=0.5, beta_2=0.75, tau=1.0)
    >>> update = {"w": np.array([2.0])}
    >>> yogi.apply(update, yogi.init(update))[0]["w"].tolist()
    [0.5]
    """

    def second(v: NDArray, u: NDArray) -> NDArray:
        square = _squared(u)
        return np.asarray(v - (1 - beta_2) * square * np.sign(v - square))

    def init(arrays: Arrays) -> State:
        return {"m": zeros(arrays), "v": _real_zeros(arrays)}

    def apply(update: Arrays, state: State) -> tuple[Arrays, State]:
        m = _each(lambda u, m: beta_1 * m + (1 - beta_1) * u, update, state["m"])
        v = _each(second, state["v"], update)
        return _each(lambda m, v: m / (np.sqrt(v) + tau), m, v), {"m": m, "v": v}

    return Transform(init, apply)


def clip_by_global_norm(max_norm: float) -> Transform:
    """Return the transform that shortens an update to an L2 norm of ``max_norm``, if it is longer.

    The norm is over all arrays together, summed in float64. A zero update stays zero.

    Examples
    --------
    >>> clip = clip_by_global_norm(2.5)
    >>> clip.apply({"w": np.array([3.0, 4.0])}, {})[0]["w"].tolist()
    [1.5, 2.0]
    """

    def apply(update: Arrays, state: State) -> tuple[Arrays, State]:
        norm = global_norm(update)
        if not norm > max_norm:
            return update, state
        return _each(lambda value: value * (max_norm / norm), update), state

    return Transform(lambda arrays: {}, apply)


def global_norm(arrays: Arrays) -> float:
    """Return the L2 norm over all arrays together, summed in float64.

    Examples
    --------
    >>> global_norm({"a": np.array([3.0]), "b": np.array([[4.0]])})
    5.0
    """
    total = 0.0
    for value in arrays.values():
        if value.dtype.kind == "c":
            wide = value.astype(np.complex128).reshape(-1).view(np.float64)
        else:
            wide = value.astype(np.float64, copy=False).reshape(-1)
        total += float(np.dot(wide, wide))
    return float(np.sqrt(total))


def zeros(arrays: Arrays) -> dict[str, NDArray]:
    """Return zeros of the same shapes, in the types that their sums are kept in."""
    return {key: np.zeros(a.shape, sum_dtype(a.dtype)) for key, a in arrays.items()}


def _real_zeros(arrays: Arrays) -> dict[str, NDArray]:
    return {key: zero.real for key, zero in zeros(arrays).items()}


def _each(function: Callable[..., Any], first: Arrays, *others: Arrays) -> dict[str, NDArray]:
    """Return what ``function`` gives for the arrays of each key, in the types of the first ones.

    A calculation with 0-d arrays gives NumPy scalars, and these had no place in a state.
    """
    return {
        key: np.asarray(function(value, *(other[key] for other in others)), value.dtype)
        for key, value in first.items()
    }


def _squared(value: NDArray) -> NDArray:
    if value.dtype.kind == "c":
        return np.asarray(np.square(value.real) + np.square(value.imag))
    return np.asarray(np.square(value))
