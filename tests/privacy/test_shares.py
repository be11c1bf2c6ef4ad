import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.base import ConfigError, RejectedReply
from umbel.privacy import NoiseShare, PerLayer, RdpAccountant

MECHANISMS = ["skellam", "discrete-gaussian"]


def secret(number):
    return number.to_bytes(32, "little")


def drawn(share, update, number=0):
    return share.draw(update, secret(number), seeded=True)


class TestRounding:
    # So little noise that none comes.
    @given(
        st.floats(0.1, 50),
        st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40),
        st.integers(0, 10**6),
    )
    def test_stays_within_the_sensitivity_whatever_the_update(self, scale, values, number):
        share = NoiseShare("skellam", 1.0, scale, 1e-15)
        update = {"w": np.array(values, np.float32)}
        whole = drawn(share, update, number)["w"]
        assert np.linalg.norm(whole.astype(float)) <= share.sensitivity(len(values)) * (1 + 1e-12)

    def test_has_the_right_mean(self):
        share = NoiseShare("skellam", 1.0, 1.0, 1e-15)
        update = {"w": np.full(9, 0.3)}
        mean = np.mean([drawn(share, update, n)["w"] for n in range(2000)])
        # The norm is looked at after rounding, which moves the mean a little.
        assert mean == pytest.approx(0.3, abs=0.03)

    def test_of_nothing_is_nothing(self):
        share = NoiseShare("skellam", 1.0, 100.0, 1e-15)
        assert drawn(share, {"w": np.zeros(50)})["w"].tolist() == [0] * 50

    def test_of_several_arrays_of_any_type(self):
        share = NoiseShare.fitting("skellam", 10.0, noise_multiplier=1e-9, shares=2, cohort=2)
        update = {
            "w": np.arange(6, dtype=np.float32).reshape(2, 3).T,
            "half": np.ones(2, np.float16),
            "none": np.zeros((0, 3)),
            "one": np.array(0.5),
        }
        whole = drawn(share, update)
        for key, value in update.items():
            assert whole[key].shape == value.shape
            assert whole[key] / share.scale == pytest.approx(value, abs=2 / share.scale)

    def test_of_nan(self):
        share = NoiseShare("skellam", 1.0, 1.0, 1.0)
        with pytest.raises(RejectedReply, match="NaN"):
            drawn(share, {"w": np.array([np.nan])})


class TestNoise:
    @pytest.mark.parametrize("mechanism", MECHANISMS)
    def test_of_all_shares_together_is_what_was_asked_for(self, mechanism):
        share = NoiseShare.fitting(mechanism, 2.0, noise_multiplier=0.5, shares=4, cohort=6)
        zero = {"w": np.zeros(20_000)}
        total = sum(drawn(share, zero, number)["w"] for number in range(4))
        assert np.std(total) / share.scale == pytest.approx(0.5 * 2.0, rel=0.02)
        assert share.noise_multiplier(4) == pytest.approx(0.5)

    @pytest.mark.parametrize("mechanism", MECHANISMS)
    def test_differs_with_the_secret_alone(self, mechanism):
        share = NoiseShare.fitting(mechanism, 1.0, noise_multiplier=1.0, shares=4, cohort=6)
        update = {"w": np.ones(100)}
        assert drawn(share, update, 1)["w"].tolist() == drawn(share, update, 1)["w"].tolist()
        assert drawn(share, update, 1)["w"].tolist() != drawn(share, update, 2)["w"].tolist()

    @pytest.mark.parametrize("bits", [16, 32, 64])
    @pytest.mark.parametrize(("shares", "cohort"), [(1, 1), (3, 10), (700, 1000)])
    @pytest.mark.parametrize("multiplier", [0.1, 1.0, 10.0])
    def test_leaves_room_for_the_sum(self, bits, shares, cohort, multiplier):
        share = NoiseShare.fitting(
            "skellam", 3.0, noise_multiplier=multiplier, shares=shares, cohort=cohort, bits=bits
        )
        largest = cohort * (share.scale * share.bound + 1)
        largest += 12 * math.sqrt(share.variance * cohort)
        assert largest < 2 ** (bits - 1)


class TestWhatItCosts:
    def test_is_near_that_of_a_gaussian_where_there_are_bits_enough(self):
        from umbel.privacy import GaussianEvent

        gaussian = RdpAccountant().compose(GaussianEvent(1.1)).epsilon(1e-6)
        for mechanism in MECHANISMS:
            share = NoiseShare.fitting(mechanism, 0.5, noise_multiplier=1.1, shares=50, cohort=80)
            spent = RdpAccountant().compose(share.event(100_000, 50)).epsilon(1e-6)
            assert gaussian <= spent < 1.01 * gaussian

    @pytest.mark.parametrize("mechanism", MECHANISMS)
    def test_more_shares_cost_less(self, mechanism):
        share = NoiseShare.fitting(mechanism, 0.5, noise_multiplier=1.1, shares=50, cohort=80)
        few, many = (RdpAccountant().compose(share.event(1000, n)).epsilon(1e-6) for n in (50, 80))
        assert many < few

    def test_few_bits_cost_more(self):
        wide, narrow = (
            NoiseShare.fitting(
                "skellam", 0.5, noise_multiplier=1.1, shares=50, cohort=80, bits=bits
            ).event(100_000, 50)
            for bits in (32, 16)
        )
        accountant = RdpAccountant()
        assert accountant.compose(narrow).epsilon(1e-6) > accountant.compose(wide).epsilon(1e-6)


class TestAsText:
    @pytest.mark.parametrize("clipping", [0.5, PerLayer({"w": 1.0, "b": 0.1})], ids=str)
    def test_travels(self, clipping):
        share = NoiseShare.fitting("skellam", clipping, noise_multiplier=1, shares=3, cohort=5)
        assert NoiseShare.of(share.to_text()) == share

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"clipping": "x"}', '{"clipping": 1.0}'])
    def test_what_is_none(self, text):
        with pytest.raises(ConfigError, match="no share of noise"):
            NoiseShare.of(text)

    @pytest.mark.parametrize(
        "change",
        [{"mechanism": "laplace"}, {"clipping": 0}, {"scale": -1.0}, {"variance": math.inf}],
        ids=str,
    )
    def test_numbers_that_make_no_sense(self, change):
        known = {"mechanism": "skellam", "clipping": 1.0, "scale": 1.0, "variance": 1.0}
        with pytest.raises(ConfigError):
            NoiseShare(**{**known, **change})
