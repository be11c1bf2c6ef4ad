"""What leaves of a reply, and what does not."""

import ml_dtypes
import numpy as np
import pytest

from umbel.base import PolicyRefused
from umbel.clientapp import dp_client_mod, normals_of, release_reply
from umbel.records import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
    encode,
)

SECRET = "Mrs Smith"
CLIP = '[arrays]\n[privacy]\ndata-set = "d"\nclip = 2.0\n'
NOISE = CLIP + "noise-multiplier = 3.0\n"


def no_noise(count):
    raise AssertionError("nobody asked for noise")


def zeros(count):
    return np.zeros(count)


def let_out(policy, message, reply, draw=no_noise):
    return release_reply(policy, message, reply, draw)


def why(policy, message, reply):
    """Return the rule by which a reply is refused; the text tells nothing that the app chose."""
    with pytest.raises(PolicyRefused) as caught:
        let_out(policy, message, reply)
    error = caught.value
    assert SECRET not in str(error)
    assert "turn to dpo@clinic" in str(error)
    return error.message.partition("([")[2].partition("])")[0]


@pytest.fixture
def model(content):
    return content({"w": np.zeros((2, 3), np.float32), "n": np.array(7)})


class TestArrays:
    def test_those_of_the_message_come_back(self, policy, content, model):
        reply = content({"n": np.array(8), "w": np.ones((2, 3), np.float32)})
        released = let_out(policy("[arrays]"), model, reply)
        assert released.content == reply
        assert list(released.content["arrays"]) == ["w", "n"]  # the message's order, not the app's
        assert released.noise_multipliers == ()

    def test_a_record_comes_back_whole(self, policy, content, model):
        part = content({"w": np.ones((2, 3), np.float32)})
        assert why(policy("[arrays]"), model, part) == "arrays.partial"
        assert let_out(policy("[arrays]\npartial = true"), model, part).content == part
        assert let_out(policy("[arrays]"), model, content()).content == content()

    @pytest.mark.parametrize(
        ("arrays", "rule"),
        [
            ({SECRET: np.zeros(3)}, "arrays.also"),
            ({"w": np.zeros((3, 2), np.float32)}, "arrays"),
            ({"w": np.zeros((2, 3), np.float64)}, "arrays.dtypes"),
            ({"w": np.full((2, 3), SECRET)}, "arrays.dtypes"),
            ({"w": np.zeros((2, 3), "M8[s]")}, "arrays.dtypes"),
            ({"w": np.zeros((2, 3), [("a", "<f4")])}, "arrays.dtypes"),
            ({"w": np.full((2, 3), np.nan, np.float32)}, "arrays"),
            ({"w": np.full((2, 3), -np.inf, np.float32)}, "arrays"),
        ],
    )
    def test_others_are_refused(self, policy, content, model, arrays, rule):
        whole = {"w": np.zeros((2, 3), np.float32), "n": np.array(7)} | arrays
        assert why(policy("[arrays]"), model, content(whole)) == rule

    def test_none_leave_without_the_table(self, policy, content, model):
        assert why(policy(), model, model) == "arrays"
        assert why(policy(), model, RecordDict({SECRET: ArrayRecord()})) == "arrays"

    def test_an_empty_record_under_a_name_of_the_apps_choice(self, policy, model):
        reply = RecordDict({SECRET: ArrayRecord()})
        assert why(policy("[arrays]"), model, reply) == "arrays.also"

    def test_more_than_the_message_carried_if_that_is_allowed(self, policy, content, model):
        rules = policy('[arrays]\nalso = ["extra/mask"]')
        reply = RecordDict({"extra": ArrayRecord({"mask": np.ones(9, np.int8)})})
        assert let_out(rules, model, reply).content == reply
        other = RecordDict({"extra": ArrayRecord({"mask2": np.ones(9)})})
        assert why(rules, model, other) == "arrays.also"

    def test_size_number_and_dtype_are_bounded(self, policy, content, model):
        assert why(policy("[arrays]\nmax-bytes = 31"), model, model) == "arrays.max-bytes"
        assert let_out(policy("[arrays]\nmax-bytes = 32"), model, model).content == model
        assert why(policy("[arrays]\nmax-count = 1"), model, model) == "arrays.max-count"
        assert why(policy('[arrays]\ndtypes = ["float32"]'), model, model) == "arrays.dtypes"
        wide = content({"w": np.zeros((2, 3)), "n": np.array(7)})
        allowed = policy('[arrays]\ndtypes = ["int64", "float64"]')
        assert let_out(allowed, model, wide).content == wide


class TestFloor:
    def test_a_large_change_is_shortened_and_a_small_one_is_not(self, policy, content):
        before = content({"a": np.full(2, 10.0), "b": np.full((1, 2), 10.0)})
        far = content({"a": np.array([13.0, 10.0]), "b": np.array([[10.0, 14.0]])})
        arrays = let_out(policy(CLIP), before, far).content["arrays"]
        np.testing.assert_allclose(arrays["a"].numpy(), [10 + 3 * 2 / 5, 10])
        np.testing.assert_allclose(arrays["b"].numpy(), [[10, 10 + 4 * 2 / 5]])
        near = content({"a": np.array([11.0, 10.0]), "b": np.array([[10.0, 11.0]])})
        assert let_out(policy(CLIP), before, near).content == near

    def test_the_bound_holds_to_the_last_bit(self, policy, content):
        rng = np.random.default_rng(3)
        for _ in range(50):
            before = content({"w": np.zeros(1000)})
            reply = content({"w": rng.normal(size=1000) * 10.0 ** rng.integers(-3, 9)})
            left = let_out(policy(CLIP), before, reply).content["arrays"]["w"].numpy()
            assert np.linalg.norm(left) <= 2.0

    def test_noise_has_the_size_that_the_policy_says(self, policy, content):
        before = content({"w": np.full(200_000, 5.0, np.float32)})
        released = let_out(policy(NOISE), before, before, normals_of(bytes(32)))
        noise = released.content["arrays"]["w"].numpy() - 5.0
        assert released.content["arrays"]["w"].dtype == "float32"
        assert noise.mean() == pytest.approx(0, abs=6 * 6 / np.sqrt(200_000))
        assert noise.std() == pytest.approx(6.0, rel=0.01)
        # The reply may be twice the bound away from what it would be with other data.
        assert released.noise_multipliers == (1.5,)

    def test_the_same_key_gives_the_same_noise_and_another_another(self, policy, content):
        before = content({"w": np.zeros(5), "v": np.zeros(5)})
        first, again, other = (
            let_out(policy(NOISE), before, before, normals_of(bytes([key] * 32))).content
            for key in (1, 1, 2)
        )
        assert first == again != other
        assert first["arrays"]["w"] != first["arrays"]["v"]

    def test_what_is_not_floating_goes_back_as_it_came(self, policy, content):
        before = content({"w": np.zeros(2), "n": np.array([7, 8])})
        reply = content({"w": np.zeros(2), "n": np.array([1950, 412])})
        left = let_out(policy(CLIP), before, reply).content
        np.testing.assert_array_equal(left["arrays"]["n"].numpy(), [7, 8])
        extra = policy('[arrays]\nalso = ["arrays/n"]\n' + CLIP.removeprefix("[arrays]\n"))
        assert why(extra, content({"w": np.zeros(2)}), reply) == "privacy.clip"

    def test_an_update_is_measured_from_zero(self, policy, content):
        before = content({"w": np.full(2, 100.0)})
        reply = content({"w": np.array([3.0, 4.0])})
        update = let_out(policy(CLIP + 'reply-is = "update"'), before, reply).content
        np.testing.assert_allclose(update["arrays"]["w"].numpy(), [1.2, 1.6])

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e308])
    def test_what_has_no_norm_is_refused(self, policy, content, value):
        before = content({"w": np.zeros(2)})
        assert why(policy(CLIP), before, content({"w": np.array([value, value])})) == "arrays"

    def test_half_precision_of_every_kind(self, policy, content):
        for dtype in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn):
            before = content({"w": np.zeros(4, dtype)})
            reply = content({"w": np.full(4, 8, dtype)})
            left = let_out(policy(CLIP), before, reply).content["arrays"]["w"]
            np.testing.assert_allclose(left.numpy().astype(float), 1.0, rtol=0.1)
            assert left.dtype == np.dtype(dtype).name

    def test_a_reply_without_arrays_costs_nothing(self, policy, content):
        assert let_out(policy(NOISE), content(), content()).noise_multipliers == ()


class TestMetrics:
    RULES = "[metrics.loss]\nminimum = 0\nmaximum = 10\nstep = 0.1\n[metrics.n]\nstep = 10\n"

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"loss": 0.5432}, {"loss": 0.5}),
            ({"loss": 1950.04}, {"loss": 10.0}),
            ({"loss": -3.0}, {"loss": 0.0}),
            ({"loss": 3}, {"loss": 3}),
            ({"n": 123}, {"n": 120}),
            ({"n": -0.3}, {"n": 0.0}),
        ],
    )
    def test_they_are_bounded_and_rounded(self, policy, content, given, told):
        left = let_out(policy(self.RULES), content(), content(metrics=given)).content["metrics"]
        assert dict(left) == pytest.approx(told)
        assert all(type(left[name]) is type(given[name]) for name in given)
        assert "-" not in str(dict(left))

    def test_they_leave_in_the_order_of_the_policy(self, policy, content):
        reply = content(metrics={"n": 10, "loss": 1.0})
        left = let_out(policy(self.RULES), content(), reply).content
        assert list(left["metrics"]) == ["loss", "n"]

    @pytest.mark.parametrize(
        ("metrics", "rule"),
        [
            ({SECRET: 1.0}, "metrics"),
            ({"loss": [1.0]}, "metrics.loss"),
            ({"loss": float("nan")}, "metrics.loss"),
            ({"loss": float("-inf")}, "metrics.loss"),
        ],
    )
    def test_others_are_refused(self, policy, content, metrics, rule):
        assert why(policy(self.RULES), content(), content(metrics=metrics)) == rule

    def test_the_record_has_one_name(self, policy, content):
        reply = RecordDict({SECRET: MetricRecord({"loss": 1.0})})
        assert why(policy(self.RULES), content(), reply) == "metrics"

    def test_noise_is_as_wide_as_the_range_and_costs(self, policy, content):
        rules = policy("[metrics.x]\nminimum = 10\nmaximum = 20\nnoise-multiplier = 0.5")
        reply = content(metrics={"x": 99})
        released = let_out(rules, content(), reply, lambda count: np.full(count, 2.0))
        assert dict(released.content["metrics"]) == {"x": 30.0}
        assert released.noise_multipliers == (0.5,)


class TestSettings:
    RULES = '[configs.status]\nvalues = ["ok", 1, true]'

    @pytest.mark.parametrize("value", ["ok", 1, True])
    def test_those_that_are_listed_leave(self, policy, content, value):
        reply = content(config={"status": value})
        left = let_out(policy(self.RULES), content(), reply).content["config"]["status"]
        assert (type(left), left) == (type(value), value)

    @pytest.mark.parametrize("value", [SECRET, 2, 1.0, False, b"ok", ["ok"]])
    def test_other_values_are_refused(self, policy, content, value):
        reply = content(config={"status": value})
        assert why(policy(self.RULES), content(), reply) == "configs.status"

    def test_other_names_are_refused(self, policy, content):
        assert why(policy(self.RULES), content(), content(config={SECRET: 1})) == "configs"
        reply = RecordDict({SECRET: ConfigRecord({"status": "ok"})})
        assert why(policy(self.RULES), content(), reply) == "configs"


class TestWhatTheServerAskedOfPrivacy:
    ASKED = ConfigRecord({"clipping": 1.0, "steps": 3})

    def test_it_goes_back_as_it_came(self, policy, content):
        message = RecordDict({"dp": self.ASKED})
        told = RecordDict({"dp": ConfigRecord({"steps": True + 2, "clipping": 1})})
        (left,) = let_out(policy("[arrays]"), message, told).content.values()
        # The message's own words: neither the order nor the types are the app's.
        assert [(key, type(value), value) for key, value in left.items()] == [
            ("clipping", float, 1.0),
            ("steps", int, 3),
        ]

    @pytest.mark.parametrize("change", [{"steps": 4}, {SECRET: 1}])
    def test_anything_else_under_its_name_is_refused(self, policy, content, change):
        reply = RecordDict({"dp": ConfigRecord({**self.ASKED, **change})})
        assert why(policy("[arrays]"), RecordDict({"dp": self.ASKED}), reply) == "configs"

    @pytest.mark.parametrize("rules", ["[arrays]", CLIP + 'reply-is = "update"\n'])
    def test_an_update_that_the_client_clipped_goes_out(self, policy, content, rules):
        asked = ConfigRecord({"record": "arrays", "clipping": 2.0})
        message = RecordDict({**content({"w": np.ones(3)}), "dp": asked})

        def train(message, context):
            return Message(content({"w": np.full(3, 9.0)}), reply_to=message)

        request = Message(message.copy(), 1, "train")
        reply = dp_client_mod(request, Context("run", 1), train).content
        left = let_out(policy(rules), message, reply).content
        assert dict(left["dp"]) == dict(asked)
        np.testing.assert_allclose(left["arrays"]["w"].view(), np.full(3, 2 / np.sqrt(3)))

    def test_other_records_of_the_message_do_not_go_back(self, policy, content):
        message = content(config={"lr": 0.1})
        assert why(policy("[arrays]"), message, message) == "configs"
        assert why(policy("[arrays]"), content(), RecordDict({"dp": self.ASKED})) == "configs"


def test_no_order_of_the_apps_survives(policy, content, model):
    rules = policy("[arrays]\n" + TestMetrics.RULES)
    forms = []
    for turn in (1, -1):
        arrays = {"w": np.ones((2, 3), np.float32), "n": np.array(8)}
        records = {
            "arrays": ArrayRecord(dict(list(arrays.items())[::turn])),
            "metrics": MetricRecord(dict([("loss", 1.0), ("n", 10)][::turn])),
        }
        reply = RecordDict(dict(list(records.items())[::turn]))
        forms.append(b"".join(encode(let_out(rules, model, reply).content)))
    assert forms[0] == forms[1]
