"""What every transform of updates keeps to, as checks that anyone can run on theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np

from umbel.base import UmbelError
from umbel.testing.bits import bits, carried, first_unsound
from umbel.testing.cases import SHAPES, Check, asserting, model
from umbel.updates import Arrays, NDArray, State, Transform, pack_state, same_layout, unpack_state

_STEPS = 5


def transform_checks() -> Iterator[tuple[str, Check]]:
    """Yield ``(name, check)`` for everything that the contract of a transform asks for.

    ``check(transform)``, or ``check(make)`` with a function that makes one, returns nothing or
    raises ``AssertionError`` with a text that says what is wrong and what to do.

    Examples
    --------
    >>> from umbel.updates import momentum
    >>> for name, check in transform_checks():
    ...     check(momentum(0.9))
    """
    checks: dict[str, Callable[[Transform], None]] = {
        "inputs_stay": _inputs_stay,
        "nothing_is_hidden": _nothing_is_hidden,
        "state_travels": _state_travels,
        "state_keeps_its_layout": _state_keeps_its_layout,
        "arrays_keep_their_make": _arrays_keep_their_make,
        "read_only_updates": _read_only_updates,
        "zero_update": _zero_update,
    }
    for name, check in checks.items():
        yield name, _on(check)


def _on(check: Callable[[Transform], None]) -> Check:
    @asserting
    @wraps(check)
    def run(thing: Transform | Callable[[], Transform]) -> None:
        check(thing if isinstance(thing, Transform) else thing())

    return run


def _updates() -> list[dict[str, NDArray]]:
    """Return updates of several dtypes, as server optimizers get them."""
    updates = []
    for step in range(_STEPS):
        single, double = (model(SHAPES, dtype, step) for dtype in ("float32", "float64"))
        updates.append({**single, **{f"{key}64": value for key, value in double.items()}})
    return updates


def _steps(transform: Transform, updates: list[dict[str, NDArray]], state: State) -> Any:
    """Return the bits of every step from ``state`` on, and the last state."""
    steps = []
    for update in updates:
        step, state = transform.apply(update, state)
        steps.append(bits(step))
    return steps, bits(state)


def _inputs_stay(transform: Transform) -> None:
    updates = _updates()
    state = transform.init(updates[0])
    for update in updates:
        before = bits(update), bits(state)
        _, after = transform.apply(update, state)
        assert (bits(update), bits(state)) == before, (
            "apply() changed an argument. Compute new arrays and return a new state; no +=, no "
            "out= onto what came in."
        )
        state = after


def _nothing_is_hidden(transform: Transform) -> None:
    updates = _updates()
    first = _steps(transform, updates, transform.init(updates[0]))
    again = _steps(transform, updates, transform.init(updates[0]))
    assert first == again, (
        "the same updates from init() gave other steps the second time. Keep in the state whatever "
        "a step depends on, and draw no random numbers but from a seed in the state."
    )


def _state_travels(transform: Transform) -> None:
    updates = _updates()
    state = transform.init(updates[0])
    for done in range(_STEPS):
        try:
            loaded = unpack_state(carried(pack_state(state)))
        except UmbelError as error:
            raise AssertionError(
                f"the state cannot be saved: {error}. Keep arrays, numbers and dictionaries of "
                f"them in it."
            ) from error
        expected = _steps(transform, updates[done:], state)
        assert _steps(transform, updates[done:], loaded) == expected, (
            f"after {done} steps, a state that was saved and loaded goes on differently. Its "
            f"values must be arrays and plain numbers, and count no object identity."
        )
        _, state = transform.apply(updates[done], state)


def _state_keeps_its_layout(transform: Transform) -> None:
    updates = _updates()
    state = transform.init(updates[0])
    assert same_layout(transform.init({}), state), (
        "init({}) has other names than init(model). A strategy asks init({}) what a state looks "
        "like before it loads one: name the parts alike for every model."
    )
    for update in updates:
        _, after = transform.apply(update, state)
        assert same_layout(after, state), (
            f"apply() returned a state with other names: {sorted(after)} after {sorted(state)}. "
            f"Let init() return all parts, with zeros."
        )
        state = after


def _arrays_keep_their_make(transform: Transform) -> None:
    updates = _updates()
    state = transform.init(updates[0])
    for update in updates:
        step, state = transform.apply(update, state)
        assert list(step) == list(update), (
            f"the step has the arrays {list(step)}, and the update had {list(update)}. Return "
            f"every array under its key, in order."
        )
        for key, value in update.items():
            _same_make(key, value, step)
    _no_scalars(state, "state")


def _same_make(key: str, value: NDArray, step: Arrays) -> None:
    found = step[key]
    assert isinstance(found, np.ndarray), (
        f"the step's {key!r} is a {type(found).__name__}, not an array. NumPy gives scalars for "
        f"0-d arrays: wrap results in np.asarray."
    )
    assert (found.dtype, found.shape) == (value.dtype, value.shape), (
        f"{key!r} came as {value.dtype}{value.shape} and left as {found.dtype}{found.shape}. Keep "
        f"shape and dtype: np.asarray(result, value.dtype)."
    )


def _no_scalars(state: State, path: str) -> None:
    for name, value in state.items():
        if isinstance(value, dict):
            _no_scalars(value, f"{path}[{name!r}]")
        assert not isinstance(value, np.generic), (
            f"{path}[{name!r}] is the NumPy scalar {value!r}, and comes back from a checkpoint as "
            f"a 0-d array. Use np.asarray for arrays, float() or int() for numbers."
        )


def _read_only_updates(transform: Transform) -> None:
    updates = _updates()
    expected = _steps(transform, updates, transform.init(updates[0]))
    for update in updates:
        for value in update.values():
            value.flags.writeable = False
    try:
        found = _steps(transform, updates, transform.init(updates[0]))
    except ValueError as error:
        raise AssertionError(
            f"the transform cannot do with read-only arrays ({error}). It must not write to what "
            f"it is given."
        ) from error
    assert found == expected, "read-only arrays of the same values give other steps"


def _zero_update(transform: Transform) -> None:
    zeros = {key: value * 0 for key, value in _updates()[0].items()}
    for updates in ([zeros, zeros], [_updates()[0], zeros, _updates()[1]]):
        state = transform.init(zeros)
        for update in updates:
            try:
                with np.errstate(divide="raise", invalid="raise"):
                    step, state = transform.apply(update, state)
            except ArithmeticError as error:
                raise AssertionError(
                    f"an update of zeros makes it divide by zero ({error}). Clients that learned "
                    f"nothing are no error: add a small number, or leave zeros alone."
                ) from error
            for what, value in (("step", step), ("state", state)):
                key = first_unsound(value)
                assert key is None, (
                    f"an update of zeros puts NaN or infinity into {key!r} of the {what}. Guard "
                    f"the division by a norm or a moment."
                )
