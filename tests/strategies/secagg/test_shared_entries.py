"""Sums of a part of the entries, which all clients of a round draw alike."""

import numpy as np
import pytest

from umbel.base import ConfigError, NotEnoughReplies, SecAggAborted
from umbel.clientapp import compression_mod, personal_layers_mod
from umbel.records import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from umbel.strategies import (
    FedAvg,
    FedPer,
    SecurelyAggregated,
    with_compression,
    with_distributed_dp,
    with_secagg,
)
from umbel.updates import QSGD, Cast, RandomK, SharedRandomK, Sign, TopK

NODES = 8
SIZE = 200
STEPS = np.random.default_rng(3).standard_normal((NODES, SIZE)).astype(np.float32)
FEW = 3
MEAN = np.average(STEPS[:FEW], axis=0, weights=range(1, FEW + 1))


@pytest.fixture
def model():
    return ArrayRecord(
        {"w": np.zeros((20, 10), np.float32), "b": np.ones(2), "bn.running_mean": np.zeros(3)}
    )


@pytest.fixture
def handler():
    """Return clients that add the same again and again, each its own."""

    def answer(message, context):
        assert set(message.content) == {"arrays", "config"}
        metrics = MetricRecord({"num-examples": 1 + context.node_id, "loss": 0.5})
        content = RecordDict({"metrics": metrics})
        if message.metadata.message_type == "train":
            arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
            arrays["w"] += STEPS[context.node_id].reshape(20, 10)
            arrays["bn.running_mean"] += 1
            content["arrays"] = ArrayRecord(arrays)
        return content

    return answer


@pytest.fixture
def inside(handler):
    """Return what puts a mod around the client, inside of secure aggregation."""

    def make(mod):
        def client(message, context):
            def call_next(message, context):
                return Message(handler(message, context), reply_to=message)

            return mod(message, context, call_next).content

        return client

    return make


def sparse(fraction=0.1, strategy=None, **options):
    compressor = SharedRandomK(fraction)
    defaults = {"weight_max": NODES, "clip": 100.0, "compressor": compressor}
    return with_secagg(strategy or FedAvg(), **{**defaults, **options})


def moved(result):
    return result.arrays["w"].view().reshape(-1)


class TestTheMean:
    def test_of_all_entries_has_the_bits_that_it_has_without(self, learn, secure):
        ours = learn(sparse(1.0), secure(), num_rounds=2)
        theirs = learn(with_secagg(FedAvg(), weight_max=NODES, clip=100.0), secure(), num_rounds=2)
        for key, array in theirs.arrays.items():
            assert bytes(ours.arrays[key].data) == bytes(array.data)

    @pytest.mark.parametrize("error_feedback", [False, True])
    def test_is_that_of_the_same_compressor_in_the_clear(
        self, learn, secure, inside, gap, error_feedback
    ):
        compressor, plain = SharedRandomK(0.1), FedAvg(fraction_evaluate=0)
        client = inside(compression_mod(compressor, error_feedback=error_feedback))
        theirs = learn(with_compression(plain, compressor), client, num_rounds=3)
        strategy = sparse(0.1, plain, metrics={"loss": 1.0}, error_feedback=error_feedback)
        ours = learn(strategy, secure(), num_rounds=3)
        assert ours.failures == []
        assert gap(ours.arrays, theirs.arrays) < 1e-4
        assert np.abs(moved(ours)).max() > 1
        assert ours.arrays["bn.running_mean"].view() == pytest.approx(np.full(3, 3.0), abs=1e-4)
        assert ours.train_metrics_clientapp[3]["loss"] == pytest.approx(0.5, abs=1e-4)

    @pytest.mark.slow
    def test_is_right_on_average(self, learn, secure):
        rounds = 60
        strategy = sparse(0.25, FedAvg(fraction_evaluate=0), error_feedback=False)
        got = moved(learn(strategy, secure(), nodes=FEW, num_rounds=rounds)) / rounds
        # Each round an entry moves by four times its mean, or not at all.
        error = np.abs(MEAN) * np.sqrt((1 / 0.25 - 1) / rounds)
        assert (np.abs(got - MEAN) < 5 * error + 1e-3).all()

    @pytest.mark.slow
    def test_with_error_feedback_leaves_out_nothing_in_the_long_run(self, learn, secure):
        strategy = sparse(0.25, FedAvg(fraction_evaluate=0))
        got = moved(learn(strategy, secure(), nodes=FEW, num_rounds=30))
        # An entry that was last sent k rounds ago lacks k updates.
        missing = 30 - got / MEAN
        assert np.abs(missing - np.rint(missing)).max() < 0.05
        assert 0 <= np.rint(missing).min() <= np.rint(missing).mean() < 6

    def test_of_layers_that_are_shared(self, learn, secure, inside, model):
        client = secure(inside(personal_layers_mod(["b"])))
        result = learn(sparse(0.1, FedPer(personal=["b"], fraction_evaluate=0)), client)
        assert result.failures == []
        assert np.count_nonzero(moved(result)) == 0.1 * SIZE
        assert result.arrays["b"] == model["b"]

    @pytest.mark.slow
    @pytest.mark.parametrize("backend", ["processes", "ray"])
    def test_has_the_same_bits_on_every_backend(self, learn, secure, backend):
        here = learn(sparse(bits=16), secure(), num_rounds=3)
        there = learn(sparse(bits=16), secure(), num_rounds=3, backend=backend)
        assert bytes(here.arrays["w"].data) == bytes(there.arrays["w"].data)


class TestBytes:
    @pytest.mark.parametrize(("fraction", "bits"), [(0.1, 32), (0.1, 16), (1.0, 16), (0.5, 64)])
    def test_are_as_many_as_there_are_entries(self, learn, secure, fraction, bits):
        sizes = []

        def client(message, context):
            content = secure()(message, context)
            if "masked" in content:
                sizes.append(content["masked"].count_bytes())
            return content

        learn(sparse(fraction, bits=bits, clip=8.0), client)
        entries = fraction * SIZE + max(1, fraction * 2)  # of "w" and of "b"
        assert sizes == [bits // 8 * (1 + entries + 3)] * NODES


class TestWhoIsRefused:
    @pytest.mark.parametrize(
        "compressor", [TopK(0.1), RandomK(0.1), QSGD(7), Sign(), Cast("int8")], ids=repr
    )
    def test_compressors_whose_codes_have_no_sum(self, compressor):
        with pytest.raises(ConfigError, match="cannot be summed under masks") as caught:
            with_secagg(FedAvg(), weight_max=1, compressor=compressor)
        assert "SharedRandomK" in caught.value.hint

    @pytest.mark.parametrize(
        "strategy",
        [
            with_secagg(FedAvg(), weight_max=1),
            with_distributed_dp(
                FedAvg(), noise_multiplier=1, clipping=1.0, cohort=NODES, delta=1e-5
            ),
        ],
        ids=["secagg", "dp"],
    )
    def test_codes_inside_of_masks(self, strategy):
        with pytest.raises(ConfigError, match="cannot expand codes") as caught:
            with_compression(strategy, SharedRandomK(0.1))
        assert "with_distributed_dp is made for whole updates" in caught.value.hint

    def test_a_wrapper_too_many(self):
        with pytest.raises(ConfigError, match="codes cannot be expanded") as caught:
            with_secagg(with_compression(FedAvg(), SharedRandomK(0.1)), weight_max=1)
        assert "compressor=SharedRandomK(0.1)" in caught.value.hint

    def test_a_mod_too_many(self, learn, secure, inside):
        client = secure(inside(compression_mod(TopK(0.1))))
        with pytest.raises(NotEnoughReplies, match="the reply is compressed already"):
            learn(sparse(), client)

    def test_a_server_that_lets_one_client_draw_otherwise(self, learn, secure):
        class Cheating(SecurelyAggregated):
            def configure_train(self, server_round, arrays, config, grid):
                messages = list(super().configure_train(server_round, arrays, config, grid))
                messages[3].content["compression"] = ConfigRecord({"seed": 1})
                return messages

        honest = sparse()
        cheating = Cheating(honest.inner, honest.plan, honest.neighbours, 3, 600.0)
        with pytest.raises(SecAggAborted, match="different models: nodes 3"):
            learn(cheating, secure())
