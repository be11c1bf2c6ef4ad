import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import AggregationError, ConfigError, UsageError
from umbel.secagg import FixedPoint, bits_for
from umbel.secagg.fixedpoint import CHUNK_ITEMS


def total_of(vectors):
    return np.sum(vectors, axis=0, dtype=vectors[0].dtype)


def error_of_mean(codec, weights, bound):
    """How far the mean can be from the exact one: half a step a client, and the weights' own."""
    parts = np.array(weights) / codec.weight_max
    half = len(weights) * 0.5 * bound / codec.levels / parts.sum()
    # A weight that is no multiple of its step is rounded, by half a step at most.
    relative = len(weights) * 0.5 / (codec.weight_scale * codec.weight_max) / parts.sum()
    return half + 2 * bound * relative + 1e-12 * bound


@st.composite
def cohorts(draw):
    bits = draw(st.sampled_from([16, 32, 64]))
    count = draw(st.integers(1, 12))
    clip = draw(st.floats(1e-3, 1e3))
    weight_max = draw(st.sampled_from([1, 1.0, 7, 100, 1000.5]))
    codec = FixedPoint(clip, weight_max, count + draw(st.integers(0, 8)), bits)
    least = 2 / codec.weight_scale
    weights = draw(st.lists(st.floats(least, weight_max), min_size=count, max_size=count))
    value = st.floats(-clip, clip)
    updates = draw(
        st.lists(st.lists(value, min_size=3, max_size=3), min_size=count, max_size=count)
    )
    return codec, clip, weights, np.array(updates)


class TestTheMean:
    @given(cohorts())
    def test_is_the_weighted_mean_to_the_precision_of_a_step(self, cohort):
        codec, clip, weights, updates = cohort
        vectors = [
            codec.encode({"a": u[:2], "b": u[2:]}, w) for u, w in zip(updates, weights, strict=True)
        ]
        zeros = {"a": np.zeros(2), "b": np.zeros(1)}
        decoded = codec.decode(total_of(vectors), zeros)
        mean = np.concatenate([decoded.arrays["a"], decoded.arrays["b"]])
        expected = np.average(updates, axis=0, weights=weights)
        assert np.abs(mean - expected).max() <= error_of_mean(codec, weights, clip)
        assert abs(decoded.weight - sum(weights)) <= len(weights) / codec.weight_scale

    @pytest.mark.parametrize("bits", [16, 32, 64])
    @pytest.mark.parametrize("sign", [-1.0, 1.0])
    def test_a_whole_cohort_at_the_bound_does_not_wrap_around(self, bits, sign):
        codec = FixedPoint(8.0, 1000, 100, bits)
        vectors = [codec.encode({"w": np.full(2, sign * 8.0)}, 1000)] * 100
        decoded = codec.decode(total_of(vectors), {"w": np.zeros(2)})
        assert decoded.arrays["w"] == pytest.approx([sign * 8.0] * 2, rel=1e-9)
        assert decoded.weight == pytest.approx(100_000)

    def test_whole_weights_are_exact(self):
        codec = FixedPoint(1.0, 1000, 100)
        total = total_of([codec.encode({}, weight) for weight in (1, 7, 999, 1000, 0)])
        assert codec.decode(total, {}).weight == 2007

    def test_moves_arrays_of_any_dtype_from_where_they_were(self):
        codec = FixedPoint({"steps": 1e4, "*": 1.0}, 10, 2)
        before = {
            "w": np.arange(4, dtype=np.float32).reshape(2, 2).T,
            "half": np.ones(3, np.float16),
            "steps": np.array(1000),
        }
        after = {key: value + value.dtype.type(1) for key, value in before.items()}
        total = codec.encode(after, 5, before=before) + codec.encode(before, 5, before=before)
        moved = codec.decode(total, before).arrays
        assert {k: v.dtype for k, v in moved.items()} == {k: v.dtype for k, v in before.items()}
        assert moved["w"] == pytest.approx(before["w"] + 0.5, abs=1e-6)
        assert moved["half"].tolist() == [1.5] * 3
        assert int(moved["steps"]) in (1000, 1001)

    def test_goes_over_more_than_a_chunk(self):
        count = 2 * CHUNK_ITEMS + 5
        values = np.linspace(-1, 1, count, dtype=np.float32)
        codec = FixedPoint(1.0, 1, 1)
        decoded = codec.decode(codec.encode({"w": values}), {"w": np.zeros(count)})
        assert np.abs(decoded.arrays["w"] - values).max() <= codec.step("w")

    def test_stochastic_rounding_has_the_right_mean(self):
        codec = FixedPoint(1.0, 1, 100, 16)
        rng = np.random.default_rng(7)
        values = np.full(20_000, 0.1234 * codec.step("w"))
        vector = codec.encode({"w": values}, uniform=rng.random).view(np.int16)[1:]
        assert set(vector) == {0, 1}
        assert vector.mean() == pytest.approx(0.1234, abs=0.01)


class TestOutOfRange:
    codec = FixedPoint({"w": 8.0, "b": 0.5}, 100, 10)

    def encode(self, w, b, weight=1):
        return self.codec.encode({"w": np.array(w), "b": np.array(b)}, weight)

    @pytest.mark.parametrize(
        ("w", "b", "key", "told"),
        [
            ([0.0, 8.5], [0.0], "w", "out of [-8, 8]"),
            ([0.0, -9.5], [0.0], "w", "out of [-8, 8]"),
            ([8.0], [-0.51], "b", "out of [-0.5, 0.5]"),
            ([np.nan, 1.0], [0.0], "w", "NaN or infinity"),
            ([np.inf], [0.0], "w", "NaN or infinity"),
            ([-np.inf, np.inf], [0.0], "w", "NaN or infinity"),
        ],
    )
    def test_a_value_is_an_error_that_names_the_array(self, w, b, key, told):
        with pytest.raises(UsageError) as caught:
            self.encode(w, b)
        assert told in caught.value.message
        assert caught.value.context["key"] == key
        assert caught.value.hint

    def test_also_in_the_last_chunk(self):
        values = np.zeros(CHUNK_ITEMS + 2)
        values[-1] = 9
        with pytest.raises(UsageError, match="a value of the update is out of") as caught:
            self.codec.encode({"w": values})
        assert "9" not in str(caught.value)  # which travels, unlike its cause
        assert str(caught.value.__cause__) == "it is 9"

    def test_the_bound_itself_is_in_range(self):
        self.encode([8.0, -8.0], [0.5], weight=100)

    @pytest.mark.parametrize("weight", [-1, 101, np.nan, np.inf])
    def test_a_weight(self, weight):
        with pytest.raises(UsageError, match=r"is not in \[0, 100\]"):
            self.encode([0.0], [0.0], weight)

    def test_a_weight_that_would_vanish(self):
        with pytest.raises(UsageError, match="too small"):
            self.encode([0.0], [0.0], 1e-9)

    def test_other_arrays_than_those_of_the_model(self):
        before = {"w": np.zeros(2), "b": np.zeros(1)}
        with pytest.raises(UsageError, match="missing \\['b'\\]"):
            self.codec.encode({"w": np.zeros(2)}, before=before)
        with pytest.raises(UsageError, match="another order"):
            self.codec.encode({"b": np.zeros(1), "w": np.zeros(2)}, before=before)
        with pytest.raises(UsageError, match="shape"):
            self.codec.encode({"w": np.zeros(3), "b": np.zeros(1)}, before=before)

    def test_a_sum_of_something_else(self):
        with pytest.raises(AggregationError, match="is none of updates of 3"):
            self.codec.decode(np.zeros(9, np.uint32), {"w": np.zeros(2)})
        with pytest.raises(AggregationError, match="weights of all clients are zero"):
            self.codec.decode(np.zeros(3, np.uint32), {"w": np.zeros(2)})


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {"bits": 8},
            {"cohort_max": 0},
            {"cohort_max": 2.0},
            {"clip": 0},
            {"clip": {"*": np.nan}},
            {"clip": True},
            {"weight_max": -1},
            {"weight_max": np.inf},
        ],
    )
    def test_that_make_no_sense(self, settings):
        with pytest.raises(ConfigError):
            FixedPoint(**{"clip": 8.0, "weight_max": 1, "cohort_max": 10, **settings})

    def test_too_few_bits_for_so_many_clients(self):
        with pytest.raises(ConfigError, match="steps for each of 1000 clients") as caught:
            FixedPoint(8.0, 1, 1000, 16)
        assert "bits=32" in caught.value.hint

    def test_no_bound_for_an_array(self):
        with pytest.raises(ConfigError, match="no bound for the array 'b'"):
            FixedPoint({"w*": 1.0}, 1, 10).bound("b")

    @given(st.integers(1, 2**20), st.integers(7, 24))
    def test_bits_for_leaves_so_many_levels(self, cohort, exponent):
        bits = bits_for(cohort, 1 << exponent)
        assert FixedPoint(1.0, 1, cohort, bits).levels >= 1 << exponent
