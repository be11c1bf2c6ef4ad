import numpy as np
import pytest

from umbel.base import ConfigError, RejectedReply
from umbel.clientapp import ScaffoldTerm, compression_mod
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.strategies import (
    CenteredClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    GeometricMedian,
    MultiKrum,
    NormBounding,
    Scaffold,
    with_compression,
)
from umbel.updates import QSGD, Cast, RandomK, SharedRandomK, Sign, TopK, momentum

RATE = 0.1
TARGETS = np.random.default_rng(5).standard_normal((4, 30)).astype(np.float32)


def model():
    return ArrayRecord(
        {
            "w": np.zeros((5, 6), np.float32),
            "bn.running_var": np.ones(2, np.float32),
            "count": np.array(0),
        }
    )


def train(message, context, term=None):
    arrays = {key: array.numpy() for key, array in message.content["arrays"].items()}
    for _ in range(2):
        g = {"w": arrays["w"] - TARGETS[context.node_id].reshape(5, 6)}
        g = g if term is None else term.corrected(g, arrays)
        arrays["w"] -= np.float32(RATE) * g["w"]
    arrays["count"] += 2
    arrays["bn.running_var"] += context.node_id
    metrics = MetricRecord({"num-examples": 1 + context.node_id})
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
    return content if term is None else term.finish(content)


def compressing(mod, handler=train, seen=None):
    def client(message, context):
        def inner(message, context):
            return Message(handler(message, context), reply_to=message)

        content = mod(message, context, inner).content
        if seen is not None:
            seen.append((context.node_id, content["arrays"].count_bytes()))
        return content

    return client


def bits(record):
    return {key: (array.dtype, array.shape, bytes(array.data)) for key, array in record.items()}


@pytest.mark.parametrize("make", [FedAvg, FedAdam, lambda: FedAvgM(server_momentum=0.5)])
@pytest.mark.parametrize("compressor", [TopK(1.0), RandomK(1.0), SharedRandomK(1.0)], ids=repr)
def test_keeping_all_is_no_compression_bit_for_bit(federate, make, compressor):
    got = federate(
        with_compression(make(), compressor),
        compressing(compression_mod(compressor)),
        initial=model(),
    )
    assert bits(got.arrays) == bits(federate(make(), train, initial=model()).arrays)


@pytest.mark.parametrize("compressor", [Cast("float16"), Cast("int8"), QSGD(30000)], ids=repr)
@pytest.mark.parametrize("make", [FedAvg, lambda: FedAdam(eta=0.01)], ids=["avg", "adam"])
def test_fine_codes_are_nearly_none(federate, make, compressor):
    client = compressing(compression_mod(compressor))
    got = federate(with_compression(make(), compressor), client, initial=model(), num_rounds=3)
    expected = federate(make(), train, initial=model(), num_rounds=3)
    difference = got.arrays["w"].view() - expected.arrays["w"].view()
    assert np.abs(difference).max() < 5e-3
    for key in ("count", "bn.running_var"):  # these travel as they are
        assert got.arrays[key] == expected.arrays[key]
    assert got.failures == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("compressor", [TopK(1.0), Cast("float16")], ids=repr)
def test_models_may_travel_to_clients_in_a_narrower_type(federate, dtype, compressor):
    came = []

    def client(message, context):
        came.append(message.content["arrays"]["w"].dtype)
        return compressing(compression_mod(compressor), handler)(message, context)

    def handler(message, context):
        assert "downlink" not in message.content
        assert message.content["arrays"]["w"].dtype == "float32"
        assert message.content["arrays"]["bn.running_var"].dtype == "float32"
        return train(message, context)

    strategy = with_compression(FedAvg(), compressor, downlink=dtype)
    got = federate(strategy, client, initial=model(), num_rounds=3)
    expected = federate(FedAvg(), train, initial=model(), num_rounds=3)
    assert set(came) == {dtype}
    assert got.failures == []
    assert got.arrays["w"].dtype == "float32"
    assert np.abs(got.arrays["w"].view() - expected.arrays["w"].view()).max() < 1e-2


def losses(federate, compressor, *, error_feedback, rounds):
    mod = compression_mod(compressor, error_feedback=error_feedback)
    strategy = with_compression(FedAvg(fraction_evaluate=0), compressor)
    got = federate(strategy, compressing(mod), initial=model(), num_rounds=rounds)
    optimum = np.average(TARGETS, axis=0, weights=[1, 2, 3, 4])
    return float(np.linalg.norm(got.arrays["w"].view().reshape(-1) - optimum))


@pytest.mark.slow
@pytest.mark.parametrize("compressor", [TopK(0.1), Sign()], ids=repr)
def test_error_feedback_takes_the_bias_out(federate, compressor):
    without = losses(federate, compressor, error_feedback=False, rounds=150)
    assert losses(federate, compressor, error_feedback=True, rounds=150) < 0.5 * without


@pytest.mark.parametrize("failures", [0, 1])
def test_what_is_not_sent_is_kept_to_be_sent(federate, failures):
    """Over the rounds, what was sent and what is left is all that there was, whatever counted."""
    to_fail, trained = [2] * failures, []
    updates, arrived, left = np.zeros(30), np.zeros(30), np.zeros(30)
    mod = compression_mod(TopK(0.1))

    def client(message, context):
        def inner(message, context):
            return Message(train(message, context), reply_to=message)

        if context.node_id in to_fail:
            to_fail.remove(context.node_id)
            raise OSError("no data")
        content = mod(message, context, inner).content
        if context.node_id == 1:
            trained.append(message.content["config"]["server-round"])
            before = message.content["arrays"]["w"].view()
            updates[:] += (train(message, context)["arrays"]["w"].view() - before).reshape(-1)
            code = content["arrays"]
            arrived[code["w::places"].view()] += code["w::values"].view()
            left[:] = context.state["compression-residual"]["w"].view().reshape(-1)
        return content

    whole = FedAvg(fraction_evaluate=0, min_completion=1.0, on_shortfall="repeat")
    federate(with_compression(whole, TopK(0.1)), client, initial=model(), num_rounds=6)
    assert trained == [1] * failures + [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(arrived + left, updates, atol=1e-5)
    assert np.abs(left).max() > 0.1


class TestEntriesThatAllDrawAlike:
    def spy(self, federate, mod=None, strategy=None, **options):
        """Return the result, and by round and node the entries that were sent and the update."""
        told = {}
        mod = mod or compression_mod(SharedRandomK(0.2), error_feedback=False)

        def client(message, context):
            before = message.content["arrays"]["w"].view()
            updates = []

            def inner(message, context):
                assert "compression" not in message.content
                content = train(message, context)
                updates.append((content["arrays"]["w"].view() - before).reshape(-1))
                return Message(content, reply_to=message)

            content = mod(message, context, inner).content
            place = (message.content["config"]["server-round"], context.node_id)
            told[place] = (content["arrays"]["w::values"].view(), updates[0])
            return content

        strategy = strategy or with_compression(FedAvg(fraction_evaluate=0), SharedRandomK(0.2))
        return federate(strategy, client, initial=model(), **options), told

    def test_are_the_same_for_the_clients_of_a_round_and_new_in_the_next(self, federate):
        result, told = self.spy(federate, num_rounds=2)
        assert result.failures == []
        places = {
            place: tuple(np.flatnonzero(np.isin(update, values)))
            for place, (values, update) in told.items()
        }
        assert {len(found) for found in places.values()} == {6}
        for server_round in (1, 2):
            assert len({places[server_round, node] for node in range(4)}) == 1
        assert places[1, 0] != places[2, 0]
        again, _ = self.spy(federate, num_rounds=2)
        assert bits(again.arrays) == bits(result.arrays)

    def test_move_the_model_and_no_others_do(self, federate):
        result, told = self.spy(federate, num_rounds=1)
        mean = np.average([told[1, n][1] for n in range(4)], axis=0, weights=[1, 2, 3, 4])
        values, update = told[1, 0]
        sent = np.isin(update, values)
        expected = np.where(sent, mean * 30 / 6, 0.0)
        np.testing.assert_allclose(result.arrays["w"].view().reshape(-1), expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("ours", "theirs", "text"),
        [
            (SharedRandomK(0.2), RandomK(0.2), "the server does not say which entries"),
            (RandomK(0.2), SharedRandomK(0.2), "it is compressed by RandomK"),
        ],
    )
    def test_need_the_same_compressor_on_both_sides(self, federate, ours, theirs, text):
        strategy = with_compression(FedAvg(fraction_evaluate=0, on_shortfall="skip"), theirs)
        client = compressing(compression_mod(ours))
        result = federate(strategy, client, initial=model(), num_rounds=1)
        assert len(result.failures) == 4
        assert text in result.failures[0].message


def test_replies_are_small(federate):
    seen = []
    client = compressing(compression_mod(TopK(0.1)), seen=seen)
    strategy = with_compression(FedAvg(fraction_evaluate=0), TopK(0.1))
    federate(strategy, client, initial=model(), num_rounds=1)
    assert {size for _, size in seen} == {3 * (4 + 2) + 2 * 4 + 8}  # three of thirty, and the rest


def test_it_composes_with_scaffold_and_hands_its_state_on(federate):
    compressor = QSGD(127)

    def handler(message, context):
        return train(message, context, ScaffoldTerm(message, context, RATE))

    def make():
        return with_compression(Scaffold(fraction_evaluate=0), compressor)

    client = compressing(compression_mod(compressor), handler)
    got = federate(make(), client, initial=model(), num_rounds=4)
    dense = federate(Scaffold(fraction_evaluate=0), handler, initial=model(), num_rounds=4)
    assert np.abs(got.arrays["w"].view() - dense.arrays["w"].view()).max() < 0.05
    strategy = make()
    federate(strategy, client, initial=model(), num_rounds=2)
    copy = make()
    copy.load_state_dict(strategy.state_dict())
    assert bits(copy.state_dict()["control"]) == bits(strategy.state_dict()["control"])


@pytest.mark.parametrize(
    ("mod", "text"),
    [
        (compression_mod(TopK(1.0)), "it is not compressed"),
        (compression_mod(TopK(0.2)), "compressed by TopK(fraction=0.2)"),
        (compression_mod(TopK(0.1), dense=["w"]), "carries an array as it is"),
    ],
)
def test_replies_that_do_not_fit_are_rejected(federate, mod, text):
    strategy = with_compression(FedAvg(fraction_evaluate=0, on_shortfall="skip"), TopK(0.1))
    strategy_result = federate(strategy, compressing(mod), initial=model(), num_rounds=1)
    assert {f.kind for f in strategy_result.failures} == {"RejectedReply"}
    assert text in strategy_result.failures[0].message


def test_an_update_with_nan_is_no_residual(federate):
    def diverging(message, context):
        content = train(message, context)
        if context.node_id == 2 and message.content["config"]["server-round"] == 1:
            content["arrays"]["w"] = np.full((5, 6), np.nan, np.float32)
        return content

    client = compressing(compression_mod(TopK(0.1)), diverging)
    strategy = with_compression(FedAvg(fraction_evaluate=0), TopK(0.1))
    result = federate(strategy, client, initial=model(), num_rounds=3)
    assert [(f.server_round, f.node_id) for f in result.failures] == [(1, 2)]


def test_the_model_does_not_travel_to_the_workers():
    import cloudpickle

    strategy = with_compression(FedAvg(), QSGD(7))
    strategy.current_arrays = ArrayRecord({"w": np.zeros(100_000)})
    aggregator = strategy.train_aggregator(1)
    pickled = cloudpickle.dumps(aggregator)
    assert len(pickled) < 10_000
    reply = RecordDict({"metrics": MetricRecord({"num-examples": 1})})
    with pytest.raises(RejectedReply, match="not compressed"):
        cloudpickle.loads(pickled).add(aggregator.zero(), reply)


def test_a_strategy_that_looks_at_replies_is_refused():
    class ByHand(FedAvg):
        def aggregate_train(self, server_round, replies):
            return super().aggregate_train(server_round, replies)

    with pytest.raises(ConfigError, match="overrides aggregate_train"):
        with_compression(ByHand(), TopK(0.1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "compressor", [TopK(0.1), RandomK(0.3), SharedRandomK(0.3), QSGD(3), Sign()], ids=repr
)
def test_processes_give_the_same_bits(federate, compressor):
    client = compressing(compression_mod(compressor))

    def run(**how):
        strategy = with_compression(FedAvg(fraction_evaluate=0), compressor)
        return bits(federate(strategy, client, initial=model(), num_rounds=3, **how).arrays)

    expected = run()
    for workers in (1, 2):
        assert (
            run(backend="processes", simulation={"backend_config": {"workers": workers}})
            == expected
        )


RULES = [
    FedMedian,
    lambda: MultiKrum(num_nodes_to_select=2),
    GeometricMedian,
    lambda: NormBounding(max_norm=0.4),
    lambda: CenteredClipping(tau=0.4),
    lambda: FedMedian(server_optimizer=momentum(0.5)),
]


@pytest.mark.parametrize("make", RULES)
def test_rules_over_kept_replies_see_the_models_that_codes_stand_for(federate, make):
    """Compressed, and compressed by hand: the median and Krum see the same replies."""
    compressor = TopK(0.2)

    def by_hand(message, context):
        content = train(message, context)
        before = message.content["arrays"]["w"].view()
        update = (content["arrays"]["w"].view() - before).reshape(-1)
        kept = compressor.expand(compressor.compress(update, None), 30, update.dtype)
        content["arrays"]["w"] = before + kept.reshape(5, 6)
        return content

    client = compressing(compression_mod(compressor, error_feedback=False))
    got = federate(with_compression(make(), compressor), client, initial=model(), num_rounds=3)
    expected = federate(make(), by_hand, initial=model(), num_rounds=3)
    assert got.failures == []
    np.testing.assert_allclose(
        got.arrays["w"].view(), expected.arrays["w"].view(), rtol=1e-6, atol=1e-6
    )
    assert got.arrays["count"] == expected.arrays["count"]
    assert np.abs(got.arrays["w"].view()).max() > 0.01
