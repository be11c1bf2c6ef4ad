import math

import ml_dtypes
import numpy as np
import pytest

from umbel.base import ConfigError
from umbel.privacy import NoiseSource

SOURCE = NoiseSource(b"0123456789abcdef", seeded=True)
MODEL = {
    "w": np.zeros((200, 100), np.float32),
    "b": np.zeros((), np.float64),
    "h": np.zeros((3, 0), ml_dtypes.bfloat16),
    "v": np.zeros(30, np.float16),
}
MECHANISMS = ["gaussian", "laplace", "discrete_gaussian", "skellam"]


def flat(noise):
    return np.concatenate([value.reshape(-1).astype(float) for value in noise.values()])


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_same_names_give_the_same_noise_and_others_another(mechanism):
    draw = getattr(SOURCE, mechanism)
    one = draw(MODEL, 9.0, "round", 1)
    assert list(one) == list(MODEL)
    assert np.array_equal(flat(one), flat(draw(MODEL, 9.0, "round", 1)))
    others = [
        draw(MODEL, 9.0, "round", 2),
        draw(MODEL, 9.0, "round", "1"),
        draw(MODEL, 9.0, b"round", 1),
        getattr(NoiseSource(bytes(16), seeded=True), mechanism)(MODEL, 9.0, "round", 1),
        {"w": draw({"x": MODEL["w"]}, 9.0, "round", 1)["x"]},
    ]
    for other in others:
        correlation = np.corrcoef(one["w"].reshape(-1), other["w"].reshape(-1))[0, 1]
        assert abs(correlation) < 4 / math.sqrt(20_000)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_neither_order_nor_company_of_an_array_matters(mechanism):
    draw = getattr(SOURCE, mechanism)
    together = draw(MODEL, 2.0, 1)
    for key in reversed(MODEL):
        assert np.array_equal(draw({key: MODEL[key]}, 2.0, 1)[key], together[key])


def test_mechanisms_share_no_bits():
    gaussian, laplace = (draw(MODEL, 1.0, 1)["w"] for draw in (SOURCE.gaussian, SOURCE.laplace))
    correlation = np.corrcoef(np.abs(gaussian.reshape(-1)), np.abs(laplace.reshape(-1)))[0, 1]
    assert abs(correlation) < 4 / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("mechanism", "size", "deviation"),
    [
        ("gaussian", 0.5, 0.5),
        ("laplace", 0.5, 0.5 * math.sqrt(2)),
        ("discrete_gaussian", 40.0, 40.0),
        ("skellam", 1600.0, 40.0),
    ],
)
def test_noise_has_the_size_asked_for(mechanism, size, deviation):
    drawn = getattr(SOURCE, mechanism)(MODEL, size, "size")["w"]
    assert drawn.std() == pytest.approx(deviation, rel=0.04)
    assert drawn.mean() == pytest.approx(0, abs=4 * deviation / math.sqrt(drawn.size))


def test_noise_has_the_shapes_and_the_dtypes_of_sums():
    for draw in (SOURCE.gaussian, SOURCE.laplace):
        noise = draw(MODEL, 1.0)
        assert {key: value.shape for key, value in noise.items()} == {
            key: value.shape for key, value in MODEL.items()
        }
        dtypes = ["float32", "float64", "float32", "float32"]
        assert [value.dtype for value in noise.values()] == dtypes
        assert all(isinstance(value, np.ndarray) for value in noise.values())
    for draw in (SOURCE.discrete_gaussian, SOURCE.skellam):
        noise = draw(MODEL, 1.0)
        assert all(value.dtype == np.int64 for value in noise.values())
        assert all(value.shape == MODEL[key].shape for key, value in noise.items())


def test_complex_arrays_get_noise_in_both_parts():
    drawn = SOURCE.gaussian({"c": np.zeros(20_000, np.complex64)}, 3.0)["c"]
    assert drawn.dtype == np.complex64
    assert drawn.real.std() == pytest.approx(3, rel=0.04)
    assert drawn.imag.std() == pytest.approx(3, rel=0.04)
    assert abs(np.corrcoef(drawn.real, drawn.imag)[0, 1]) < 0.03


def test_large_arrays_drawn_by_several_threads_are_the_same():
    large = {name: np.zeros(1_100_000, np.float32) for name in "ab"}
    together = SOURCE.gaussian(large, 1.0, "large")
    for name, value in large.items():
        assert np.array_equal(SOURCE.gaussian({name: value}, 1.0, "large")[name], together[name])


def test_noise_of_size_zero_is_none():
    assert not flat(SOURCE.gaussian(MODEL, 0.0)).any()


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("size", [-1.0, math.nan, math.inf])
def test_a_size_that_is_none_is_refused(mechanism, size):
    with pytest.raises(ConfigError):
        getattr(SOURCE, mechanism)(MODEL, size)


def test_whole_numbers_take_no_fractions():
    steps = {"steps": np.zeros(2, np.int64)}
    with pytest.raises(ConfigError, match="key: steps"):
        SOURCE.gaussian(steps, 1.0)
    assert SOURCE.skellam(steps, 1.0)["steps"].shape == (2,)


def test_the_statement_hears_where_the_bits_come_from():
    assert SOURCE.randomness == "seeded: simulation only"
    assert NoiseSource(bytes(32), seeded=False).randomness == "cryptographic"
    assert b"0123456789abcdef".decode() not in repr(SOURCE)


def test_a_secret_that_is_too_short_is_refused():
    with pytest.raises(ConfigError, match="at least 16 bytes"):
        NoiseSource(b"secret", seeded=False)
