"""Bias, variance, contraction and size of every compressor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from umbel.base import ConfigError
from umbel.records import ArrayRecord
from umbel.updates import QSGD, Cast, RandomK, SharedRandomK, Sign, TopK, expanded

ALL = [
    TopK(0.1),
    TopK(1.0),
    RandomK(0.2),
    SharedRandomK(0.2),
    QSGD(1),
    QSGD(7),
    QSGD(127),
    QSGD(1000),
    Sign(),
    Cast("float16"),
    Cast("bfloat16"),
    Cast("int8"),
]
UNBIASED = [c for c in ALL if c.omega(40) > 0]


def there_and_back(compressor, values, seed=0, *, shrink=False):
    compressor = compressor.drawn(seed, "w")
    parts = compressor.compress(values, np.random.default_rng(seed))
    return expanded(compressor, parts, values.size, values.dtype, shrink=shrink)


@pytest.mark.parametrize("compressor", UNBIASED, ids=repr)
def test_the_mean_is_right_and_the_variance_within_its_bound(compressor):
    values = np.random.default_rng(1).standard_normal(40)
    draws = np.array([there_and_back(compressor, values, seed) for seed in range(2000)])
    error = draws - values
    variance = (error**2).sum(axis=1).mean()
    assert variance <= 1.05 * compressor.omega(40) * (values**2).sum()
    # Six standard errors of each coordinate's mean.
    bound = 6 * draws.std(axis=0) / np.sqrt(len(draws)) + 1e-9
    assert (np.abs(error.mean(axis=0)) <= bound).all()


def test_the_variance_of_random_k_is_its_bound():
    values, compressor = np.random.default_rng(2).standard_normal(40), RandomK(0.2)
    draws = np.array([there_and_back(compressor, values, seed) for seed in range(2000)])
    variance = ((draws - values) ** 2).sum(axis=1).mean()
    assert variance == pytest.approx(4.0 * (values**2).sum(), rel=0.05)


@pytest.mark.parametrize("compressor", ALL, ids=repr)
@given(
    values=hnp.arrays(
        np.float32,
        hnp.array_shapes(max_dims=1, max_side=30),
        elements=st.floats(-100, 100, width=32, allow_subnormal=False).map(
            lambda x: 0.0 if abs(x) < 1e-3 else x
        ),
    )
)
@settings(max_examples=30)
def test_with_feedback_no_code_is_farther_than_zero(compressor, values):
    draws = [there_and_back(compressor, values, seed, shrink=True) for seed in range(30)]
    error = np.mean([((draw - values) ** 2).sum() for draw in draws])
    # On average for those that draw: one draw of thirty may be off by chance.
    slack = 1.5 if compressor in UNBIASED else 1.0
    assert error <= slack * (values**2).sum() * (1 + 1e-6) + 1e-12
    assert all(draw.dtype == values.dtype for draw in draws)


@pytest.mark.parametrize("compressor", ALL, ids=repr)
@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9])
def test_zeros_stay_zeros_whatever_the_size(compressor, size):
    out = there_and_back(compressor, np.zeros(size, np.float32))
    assert out.shape == (size,)
    assert not out.any()


def test_top_k_keeps_the_largest():
    values = np.random.default_rng(3).standard_normal(100)
    kept = there_and_back(TopK(0.05), values)
    largest = np.argsort(-np.abs(values))[:5]
    assert sorted(np.flatnonzero(kept)) == sorted(largest)
    assert (kept[largest] == values[largest]).all()


def test_all_of_it_is_exact():
    values = np.random.default_rng(3).standard_normal(100).astype(np.float32)
    for compressor in (TopK(1.0), RandomK(1.0), SharedRandomK(1.0)):
        assert compressor.keeps_all
        assert (there_and_back(compressor, values) == values).all()


def test_codes_that_all_draw_alike_can_be_summed_as_they_are():
    rng, compressor = np.random.default_rng(5), SharedRandomK(0.3)
    updates = rng.standard_normal((6, 50))
    codes = [compressor.drawn(9, "w").compress(update, rng)["values"] for update in updates]
    total = compressor.drawn(9, "w").expand({"values": sum(codes)}, 50, np.dtype(float))
    expanded = [there_and_back(compressor, update, 9) for update in updates]
    np.testing.assert_allclose(total, sum(expanded))


def test_what_all_draw_differs_by_round_and_by_array():
    def places(seed, key):
        code = SharedRandomK(0.1).drawn(seed, key).compress(np.arange(1000), None)
        return tuple(code["values"].tolist())

    assert places(1, "w") == places(1, "w")
    assert len({places(1, "w"), places(2, "w"), places(1, "b")}) == 3
    # For ever: a client and a server of different versions must draw alike.
    assert places(1, "w")[:5] == (0, 1, 7, 18, 21)


@pytest.mark.parametrize("levels", [1, 7, 8, 127, 128, 32767])
def test_qsgd_reaches_its_highest_level(levels):
    assert there_and_back(QSGD(levels), np.array([-2.0, 0.0])).tolist() == [-2.0, 0.0]


def test_too_large_for_float16_is_its_largest():
    out = there_and_back(Cast("float16"), np.array([1e6, -1e6], np.float32))
    assert out.tolist() == [65504.0, -65504.0]


@pytest.mark.parametrize(
    ("compressor", "part"),
    [
        (TopK(0.01), 0.01 * 6 / 4),
        (RandomK(0.1), 0.1 * 6 / 4),
        (SharedRandomK(0.1), 0.1),
        (QSGD(7), 1 / 8),
        (QSGD(127), 1 / 4),
        (QSGD(1000), 1 / 2),
        (Sign(), 1 / 32),
        (Cast("float16"), 1 / 2),
        (Cast("bfloat16"), 1 / 2),
        (Cast("int8"), 1 / 4),
    ],
    ids=repr,
)
def test_what_travels_is_as_small_as_it_says(compressor, part):
    values = np.random.default_rng(4).standard_normal(50_000).astype(np.float32)
    record = ArrayRecord(compressor.compress(values, np.random.default_rng(0)))
    assert record.count_bytes() == pytest.approx(part * values.nbytes, abs=8)


@pytest.mark.parametrize(
    "make",
    [lambda: TopK(0), lambda: RandomK(1.5), lambda: QSGD(0), lambda: Cast("int4")],
)
def test_parameters_out_of_range_are_refused(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("compressor", ALL, ids=repr)
def test_codes_of_another_size_are_refused(compressor):
    parts = compressor.compress(np.ones(40, np.float32), np.random.default_rng(0))
    with pytest.raises(ValueError):
        compressor.expand(parts, 3, np.dtype(np.float32))
