import ml_dtypes
import numpy as np
import pytest

from umbel.updates import (
    chain,
    clip_by_global_norm,
    global_norm,
    momentum,
    scale,
    scale_by_adam,
    scale_by_schedule,
)

EVERY = {
    "scale": scale(0.5),
    "schedule": scale_by_schedule(lambda step: 1 / step),
    "momentum": momentum(0.9),
    "adam": scale_by_adam(0.9, 0.99, 1e-3),
    "clip": clip_by_global_norm(1.0),
    "chain": chain(clip_by_global_norm(1.0), scale_by_adam(0.9, 0.99, 1e-3), scale(0.1)),
}


def frozen(dtype, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {
        "w": rng.standard_normal((3, 2)).astype(dtype),
        "s": np.array(rng.standard_normal(), dtype),
        "e": np.zeros((0, 2), dtype),
    }
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_types_and_shapes_stay_and_nothing_given_is_changed(name, dtype):
    transform, update = EVERY[name], frozen(dtype)
    state = transform.init(update)
    for _ in range(3):
        step, state = transform.apply(update, state)
        for key, value in step.items():
            assert isinstance(value, np.ndarray)
            assert (value.dtype, value.shape) == (update[key].dtype, update[key].shape)
            assert np.isfinite(value).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_state_is_not_changed_by_using_it(name):
    transform, update = EVERY[name], frozen("float32")
    _, state = transform.apply(update, transform.init(update))
    first, _ = transform.apply(update, state)
    second, _ = transform.apply(update, state)
    for key in update:
        np.testing.assert_array_equal(first[key], second[key])


def test_momentum_is_that_of_the_formula():
    heavy, v = momentum(0.75), np.zeros(4)
    state = heavy.init({"w": v})
    for seed in range(4):
        u = np.random.default_rng(seed).standard_normal(4)
        v = 0.75 * v + u
        step, state = heavy.apply({"w": u}, state)
        np.testing.assert_array_equal(step["w"], v)


def test_moments_of_half_precision_are_kept_in_float32():
    update = {"w": np.ones(2).astype(ml_dtypes.bfloat16)}
    state = scale_by_adam(0.9, 0.99, 1e-3).init(update)
    assert state["m"]["w"].dtype == state["v"]["w"].dtype == np.float32


def test_adam_of_complex_numbers_divides_by_their_size():
    adam = scale_by_adam(0.0, 0.0, 1e-9)
    update = {"w": np.array([3 + 4j, -2j])}
    step, state = adam.apply(update, adam.init(update))
    np.testing.assert_allclose(step["w"], [0.6 + 0.8j, -1j], rtol=1e-8)
    assert state["v"]["w"].dtype == np.float64


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
def test_clipping_shortens_what_is_long_and_leaves_the_rest(dtype):
    update = {"a": np.full(8, 3).astype(dtype), "b": np.full(8, 4).astype(dtype)}
    assert global_norm(update) == pytest.approx(np.sqrt(8 * 25))
    clipped, _ = clip_by_global_norm(2.0).apply(update, {})
    assert global_norm(clipped) == pytest.approx(2.0, rel=2e-3)
    same, _ = clip_by_global_norm(1e3).apply(update, {})
    assert same is update


def test_a_zero_update_stays_zero():
    step, _ = clip_by_global_norm(1.0).apply({"w": np.zeros(3)}, {})
    assert step["w"].tolist() == [0.0] * 3


def test_the_norm_does_not_overflow_in_float32():
    assert global_norm({"w": np.full(4, 1e30, np.float32)}) == pytest.approx(2e30)
    assert global_norm({}) == 0.0


def test_a_chain_of_nothing_is_the_identity():
    update = frozen("float32")
    step, state = chain().apply(update, chain().init(update))
    assert (step, state) == (update, {})
