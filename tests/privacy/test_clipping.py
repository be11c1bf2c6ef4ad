import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from umbel.base import ConfigError, KeyStream, RejectedReply, derive_key
from umbel.privacy import AdaptiveBound, PerLayer, clip
from umbel.updates import global_norm

DTYPES = st.sampled_from(
    [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]
)
NUMBERS = st.floats(-300, 300) | st.sampled_from([0.0, 1e-7, -3e-5, 2.0**-9])


@st.composite
def updates(draw):
    names = draw(st.lists(st.sampled_from("abc"), unique=True, max_size=3))
    shapes = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)
    return {
        name: draw(hnp.arrays(np.float64, draw(shapes), elements=NUMBERS)).astype(draw(DTYPES))
        for name in names
    }


BOUNDS = st.floats(1e-6, 1e3)


@settings(max_examples=40)
@given(updates(), BOUNDS)
def test_an_update_ends_within_the_bound_and_keeps_its_direction(update, bound):
    clipped = clip(update, bound)
    assert clipped.norm == pytest.approx(global_norm(update), rel=1e-12)
    assert clipped.within == (clipped.norm <= bound)
    assert global_norm(clipped.update) <= bound * (1 + 1e-15)
    assert list(clipped.update) == list(update)
    for key, value in update.items():
        after = clipped.update[key]
        assert (after.shape, after.dtype) == (value.shape, value.dtype)
        assert not (np.sign(after.astype(float)) * np.sign(value.astype(float)) < 0).any()
        if clipped.within:
            assert after is value


@settings(max_examples=40)
@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-9, 9, width=32)), BOUNDS)
def test_a_shortened_update_is_as_long_as_it_may_be(values, bound):
    values[0] = 10
    bound = min(bound, 5.0)
    after = clip({"w": values}, bound).update["w"].astype(float)
    assert np.linalg.norm(after) == pytest.approx(bound, rel=1e-6)
    np.testing.assert_allclose(after, values * (bound / np.linalg.norm(values)), rtol=2e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_rounding_to_half_precision_does_not_lift_the_norm(dtype):
    # For the bound 4.4e-6 each entry is 4.4e-8, which rounds up to 6e-8, float16's least number.
    value = np.full(10_000, 1.0, dtype)
    for bound in (1e-3, 4.4e-6, 1.0, 7.123):
        assert global_norm(clip({"w": value}, bound).update) <= bound


def test_a_zero_update_passes():
    update = {"w": np.zeros((2, 0, 3), np.float32), "b": np.zeros((), np.float32)}
    assert clip(update, 1e-9).update is update
    assert clip({}, 1.0).norm == 0


def test_an_array_of_no_axes_stays_one():
    after = clip({"b": np.array(3.0, np.float32)}, 1.5).update["b"]
    assert isinstance(after, np.ndarray)
    assert after.shape == ()
    assert after == pytest.approx(1.5, rel=1e-6)


def test_layouts_and_byte_orders_do_not_matter():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    plain = clip({"w": values}, 1.0).update["w"]
    for other in (np.asfortranarray(values), values.astype(">f4"), values[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(clip({"w": other}, 1.0).update["w"], plain)


def test_complex_numbers_are_pairs():
    clipped = clip({"w": np.array([3 + 4j, 12j], np.complex64)}, 6.5)
    assert clipped.norm == 13
    np.testing.assert_allclose(clipped.update["w"], [1.5 + 2j, 6j], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_what_has_no_norm_is_rejected(bad):
    update = {"v": np.ones(3), "w": np.array([1.0, bad])}
    with pytest.raises(RejectedReply, match=r"NaN, infinity.*key: w"):
        clip(update, 1.0)
    with pytest.raises(RejectedReply, match=r"NaN, infinity.*key: w"):
        clip(update, PerLayer({"v": 1.0, "w": 1.0}))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, ml_dtypes.int4])
def test_whole_numbers_do_not_slip_through(dtype):
    with pytest.raises(RejectedReply, match=r"cannot be clipped.*key: steps"):
        clip({"w": np.zeros(2), "steps": np.zeros(1, dtype)}, 1.0)


def test_text_is_rejected_with_its_name():
    with pytest.raises(RejectedReply, match="key: words"):
        clip({"words": np.array(["a"])}, 1.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf, 1e-200, True, "1"])
def test_a_bound_that_bounds_nothing_is_refused(bound):
    for use in (
        lambda: clip({"w": np.ones(1)}, bound),
        lambda: PerLayer({"w": bound}),
        lambda: AdaptiveBound(bound),
    ):
        with pytest.raises(ConfigError):
            use()


@settings(max_examples=40)
@given(updates(), st.tuples(BOUNDS, BOUNDS, BOUNDS))
def test_layers_stay_each_within_its_bound(update, bounds):
    layers = PerLayer(dict(zip("abc", bounds, strict=True)))
    clipped = clip(update, layers)
    assert clipped.norm == pytest.approx(global_norm(update), rel=1e-12)
    assert global_norm(clipped.update) <= layers.sensitivity * (1 + 1e-14)
    fits = {key: global_norm({key: value}) <= layers.bounds[key] for key, value in update.items()}
    assert clipped.within == all(fits.values())
    for key, value in update.items():
        assert global_norm({key: clipped.update[key]}) <= layers.bounds[key] * (1 + 1e-15)
        assert (clipped.update[key] is value) == fits[key]


def test_an_array_without_a_layer_is_rejected():
    with pytest.raises(RejectedReply, match="key: b"):
        clip({"w": np.ones(1), "b": np.ones(1)}, PerLayer({"w": 1.0}))
    with pytest.raises(ConfigError, match="at least one"):
        PerLayer({})


def norms(cohort, round_, sigma=0.5):
    """Norms of a cohort: log-normal around the median 1."""
    stream = KeyStream(derive_key(bytes(32), "norms", round_))
    u, v = stream.uniform(2 * cohort).reshape(2, -1)
    return np.exp(sigma * np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v))


def adapted(bound, rounds, cohort, *, noisy):
    """The bounds of all rounds, for updates with norms of median 1."""
    path = []
    for round_ in range(rounds):
        within = int((norms(cohort, round_) <= bound.bound).sum())
        u, v = KeyStream(derive_key(bytes(32), "count", round_)).uniform(2)
        normal = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
        noise = noisy * normal * bound.noise_of_count(cohort)
        bound = bound.after(bound.fraction(within, cohort, cohort, noise))
        path.append(bound.bound)
    return np.array(path)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("start", [100.0, 0.01])
def test_the_bound_finds_the_median_norm_from_a_hundred_times_off(start, noisy):
    # At full distance a round changes log(bound) by 0.2 / 2, so log(100) takes 46 rounds.
    path = adapted(AdaptiveBound(start), rounds=100, cohort=50, noisy=noisy)
    arrived = np.abs(np.log(path)) < np.log(1.25)
    assert not arrived[:40].any()
    assert arrived[70:].all()
    assert path[70:].mean() == pytest.approx(1.0, abs=0.08)


def test_the_bound_finds_other_quantiles():
    path = adapted(AdaptiveBound(0.1, quantile=0.9), rounds=150, cohort=200, noisy=True)
    ninth_decile = math.exp(0.5 * 1.2816)
    assert path[100:].mean() == pytest.approx(ninth_decile, rel=0.08)


def test_the_rule_is_the_papers():
    assert AdaptiveBound(2.0, learning_rate=0.3).after(0.9).bound == pytest.approx(
        2 * math.exp(-0.3 * 0.4), rel=1e-14
    )
    assert AdaptiveBound(2.0).after(0.5).bound == pytest.approx(2.0, rel=1e-14)
    with pytest.raises(ConfigError, match="is nan"):
        AdaptiveBound().after(math.nan)


def test_a_bound_that_nobody_pulls_up_ends_at_a_number():
    bound = AdaptiveBound(1e-99, learning_rate=5.0)
    for _ in range(10):
        bound = bound.after(1.0)
    assert bound.bound == pytest.approx(1e-100)
    assert clip({"w": np.ones(2)}, bound.bound).update["w"].max() <= 1e-100


@given(st.floats(0.01, 20), st.integers(1, 1000))
def test_updates_and_count_together_cost_what_is_accounted(z, cohort):
    bound = AdaptiveBound()
    sigma_b = bound.noise_of_count(cohort)
    if 2 * sigma_b <= z:
        with pytest.raises(ConfigError, match="set count_sigma above"):
            bound.split(z, cohort)
        return
    updates_z = bound.split(z, cohort)
    assert updates_z > z
    # Gaussian mechanisms compose by their inverse squares; the count's sensitivity is a half.
    assert updates_z**-2 + (sigma_b / 0.5) ** -2 == pytest.approx(z**-2, rel=1e-9)


def test_one_client_moves_the_count_by_half():
    bound = AdaptiveBound(count_sigma=3.0)
    with_all = [bound.fraction(within, 10, 20, 0.0) * 20 for within in (4, 5)]
    without_one = bound.fraction(4, 9, 20, 0.0) * 20
    assert bound.noise_of_count(20) == 3.0
    assert [abs(count - without_one) for count in with_all] == [0.5, 0.5]


@pytest.mark.parametrize(
    "wrong", [{"quantile": 0.0}, {"quantile": math.nan}, {"learning_rate": 0}, {"count_sigma": -1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        AdaptiveBound(**wrong)
