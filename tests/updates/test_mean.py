import math
import pickle

import ml_dtypes
import numpy as np
import pytest

from umbel.base import AggregationError, RejectedReply
from umbel.records import ArrayRecord, MetricRecord, RecordDict, decode, encode
from umbel.updates import WeightedMean

FLOATS = [
    "float16",
    "float32",
    "float64",
    "longdouble",
    "complex64",
    "complex128",
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
]
WHOLE = ["bool", "int8", "uint8", "int16", "int64", "uint64", ml_dtypes.int4]


def reply(arrays, weight=1, **metrics):
    metrics = {"num-examples": weight, **metrics}
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})


def mean_of(*replies, **options):
    aggregator = WeightedMean(**options)
    acc = aggregator.zero()
    for content in replies:
        acc = aggregator.add(acc, content)
    return aggregator.finish(acc)


def merged(*replies, **options):
    """The mean of replies that were each summed alone, sent as bytes, and merged."""
    aggregator = WeightedMean(**options)
    sums = [
        aggregator.unpack(
            decode(b"".join(encode(aggregator.pack(aggregator.add(aggregator.zero(), content)))))
        )
        for content in replies
    ]
    total = sums[0]
    for other in sums[1:]:
        total = aggregator.merge(total, other)
    return aggregator.finish(total)


@pytest.mark.parametrize("combine", [mean_of, merged])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_floating_point_arrays(dtype, shape, combine):
    values = [np.full(shape, x).astype(dtype) for x in (1.0, 2.0)]
    mean = combine(reply([values[0]], 3), reply([values[1]], 1)).arrays["0"].view()
    assert mean.dtype == np.dtype(dtype)
    assert mean.shape == shape
    np.testing.assert_array_equal(mean, np.full(shape, 1.25).astype(dtype))


@pytest.mark.parametrize("combine", [mean_of, merged])
@pytest.mark.parametrize("dtype", WHOLE, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2,)])
def test_whole_numbers_are_rounded_to_the_nearest(dtype, shape, combine):
    ones, zeros = np.ones(shape).astype(dtype), np.zeros(shape).astype(dtype)
    mean = combine(reply([ones], 3), reply([zeros], 2)).arrays["0"].view()
    assert mean.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(mean, ones)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_the_largest_whole_numbers_do_not_wrap_around(dtype):
    largest = np.iinfo(dtype).max
    mean = mean_of(reply([np.array([largest], dtype)])).arrays["0"].view()
    assert largest - 2048 <= int(mean[0]) <= largest


@pytest.mark.parametrize(
    "layout",
    [
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1][::-1],
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        lambda a: np.broadcast_to(a[:1], a.shape),
    ],
    ids=["fortran", "strided", "reversed", "big-endian", "broadcast"],
)
@pytest.mark.parametrize("items", [6, 70_000])
def test_layouts_and_byte_order_do_not_matter(layout, items):
    plain = np.arange(2 * items, dtype=np.float32).reshape(2, items)
    given = layout(plain)
    given.flags.writeable = False
    expected = mean_of(reply([np.array(given, np.float32)], 3), reply([plain + 1], 2))
    for got in (
        mean_of(reply([given], 3), reply([plain + 1], 2)),
        merged(reply([given], 3), reply([plain + 1], 2)),
    ):
        assert got.arrays == expected.arrays


def test_replies_are_neither_changed_nor_kept():
    first, second = np.ones(5, np.float32), np.full(5, 3, np.float32)
    aggregator = WeightedMean()
    acc = aggregator.add(aggregator.zero(), reply([first]))
    first[:] = 100
    acc = aggregator.add(acc, reply([second]))
    second[:] = 100
    assert aggregator.finish(acc).arrays["0"].view().tolist() == [2.0] * 5


def test_the_mean_cannot_be_changed():
    for combine in (mean_of, merged):
        mean = combine(reply([np.ones(3, np.float32)]), reply([np.ones(3, np.float32)]))
        assert mean.arrays["0"].frozen


def test_dtypes_that_differ_give_the_common_one_in_any_order():
    narrow, wide = np.ones(2, np.float16), np.full(2, 2, np.float64)
    for pair in ((narrow, wide), (wide, narrow)):
        for combine in (mean_of, merged):
            mean = combine(*(reply([array]) for array in pair)).arrays["0"].view()
            assert mean.dtype == np.float64
            assert mean.tolist() == [1.5, 1.5]
    rng = np.random.default_rng(0)
    mixed = [rng.standard_normal(9).astype(d) for d in ("f4", "f8", "f2", "f4", "i2")]
    replies = [reply([array], 0.1 + n) for n, array in enumerate(mixed)]
    assert mean_of(*replies).arrays == merged(*replies).arrays
    halves = [np.ones(1, np.float16), np.ones(1).astype(ml_dtypes.bfloat16)]
    assert mean_of(*(reply([half]) for half in halves)).arrays["0"].dtype == "float32"
    assert mean_of(reply([np.ones(1)]), reply([np.ones(1) * 1j])).arrays["0"].dtype == "complex128"


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array(["2026-01-01"], "M8[D]"), np.zeros(1, [("x", "f4")])]
)
def test_what_is_no_number_is_rejected_by_name(array):
    with pytest.raises(RejectedReply, match="has no sum") as caught:
        mean_of(reply({"w": np.ones(1), "name": array}))
    assert caught.value.context["key"] == "name"
    aggregator = WeightedMean()
    acc = aggregator.add(aggregator.zero(), reply({"name": np.ones(1)}))
    with pytest.raises(RejectedReply):
        aggregator.add(acc, reply({"name": array}))
    assert aggregator.finish(acc).arrays["name"].view().tolist() == [1.0]


@pytest.mark.parametrize("weight", [-1, -0.5, math.nan, math.inf, 1e30, 1e-30, [1, 2]])
def test_bad_weights_are_rejected(weight):
    with pytest.raises(RejectedReply, match="weight must be zero or lie in") as caught:
        mean_of(reply([np.ones(1)], weight))
    assert caught.value.context["key"] == "num-examples"


def test_a_missing_weight_is_rejected():
    content = RecordDict({"arrays": ArrayRecord([np.ones(1)]), "m": MetricRecord({"loss": 1.0})})
    with pytest.raises(RejectedReply, match="it is missing"):
        mean_of(content)


def test_a_weight_of_zero_counts_nothing_and_all_zeros_are_an_error():
    out = mean_of(reply([np.ones(1)], 0, loss=9.0), reply([np.full(1, 3.0)], 2, loss=1.0))
    assert out.arrays["0"].view().tolist() == [3.0]
    assert dict(out.metrics) == {"loss": 1.0}
    assert out.count == 2
    with pytest.raises(AggregationError, match="all 2 replies are zero"):
        mean_of(reply([np.ones(1)], 0), reply([np.ones(1)], 0))


def test_other_names_for_the_weight():
    content = RecordDict({"metrics": MetricRecord({"samples": 3, "loss": 2.0})})
    out = mean_of(content, weighted_by="samples", with_arrays=False)
    assert (out.arrays, dict(out.metrics), out.weight) == (None, {"loss": 2.0}, 3.0)


def test_metrics_that_are_lists_or_missing_in_some():
    out = mean_of(
        reply([np.ones(1)], 1, both=1.0, per_class=[0.0, 1.0], empty=[]),
        reply([np.ones(1)], 3, both=2, per_class=[1, 1], empty=[]),
        reply([np.ones(1)], 4, rare=7.0),
    )
    assert dict(out.metrics) == {
        "both": 1.75,
        "per_class": [0.75, 1.0],
        "empty": [],
        "rare": 7.0,
    }


@pytest.mark.parametrize("combine", [mean_of, merged])
def test_metrics_that_do_not_fit_together_are_nan_in_any_order(combine):
    values = [[1.0], [1.0, 2.0], 3.0, [4.0]]
    replies = [reply([np.ones(1)], 1, odd=value, fine=1.0) for value in values]
    for order in (replies, replies[::-1], replies[2:] + replies[:2]):
        metrics = combine(*order).metrics
        assert math.isnan(metrics["odd"])
        assert metrics["fine"] == 1.0


def test_a_metric_of_clients_without_weight_has_no_mean():
    out = mean_of(reply([np.ones(1)], 0, rare=1.0), reply([np.ones(1)], 1))
    assert math.isnan(out.metrics["rare"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "complex64", ml_dtypes.bfloat16], ids=str
)
def test_what_is_not_finite_is_rejected_by_name(bad, dtype):
    spoiled = np.ones(5).astype(dtype)
    spoiled[3] = bad
    with pytest.raises(RejectedReply, match="'b' holds NaN or infinity") as caught:
        mean_of(reply({"a": np.ones(2), "b": spoiled}))
    assert caught.value.context["key"] == "b"


def test_what_is_not_finite_is_taken_on_request():
    out = mean_of(reply([np.array([np.inf, 1.0])]), require_finite=False)
    assert out.arrays["0"].view().tolist() == [np.inf, 1.0]


def test_large_finite_numbers_pass_and_sums_that_overflow_are_an_error():
    large = np.array([1e38], np.float32)
    assert mean_of(reply([large], 1), reply([large], 1)).arrays["0"].view()[0] == large[0]
    with pytest.raises(AggregationError, match="overflows") as caught:
        mean_of(reply({"w": large}, 100))
    assert caught.value.context["key"] == "w"


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"w": np.ones(2)}, r"missing \['b'\]"),
        ({"w": np.ones(2), "b": np.ones(1), "c": np.ones(1)}, r"unexpected \['c'\]"),
        ({"w": np.ones(3), "b": np.ones(1)}, r"'w' has shape \(3,\), not \(2,\)"),
    ],
)
def test_another_model_than_the_one_sent_is_rejected(arrays, says):
    with pytest.raises(RejectedReply, match=says):
        mean_of(reply(arrays), shapes={"w": (2,), "b": (1,)})


@pytest.mark.parametrize("combine", [mean_of, merged])
def test_without_a_model_replies_that_differ_have_no_mean_whoever_folds_them(combine):
    same, other = reply({"w": np.ones(2)}), reply({"v": np.ones(2)})
    for order in ([same, other, same], [other, same, same], [same, same, other]):
        with pytest.raises(AggregationError, match=r"different arrays: missing"):
            combine(*order)
    with pytest.raises(AggregationError, match=r"'w' has shape \(3,\), not \(2,\)"):
        combine(same, reply({"w": np.ones(3)}))


def test_a_rejected_reply_leaves_the_sum_as_it_was():
    aggregator = WeightedMean(shapes={"w": (2,)})
    acc = aggregator.add(aggregator.zero(), reply({"w": np.ones(2)}, 1, loss=1.0))
    for bad in (
        reply({"w": np.full(2, np.nan)}, 1, loss=5.0),
        reply({"w": np.ones(2)}, -1, loss=5.0),
        reply({"v": np.ones(2)}, 1, loss=5.0),
        RecordDict({"metrics": MetricRecord({"num-examples": 1})}),
    ):
        with pytest.raises(RejectedReply):
            aggregator.add(acc, bad)
    out = aggregator.finish(acc)
    assert out.arrays["w"].view().tolist() == [1.0, 1.0]
    assert (dict(out.metrics), out.count, out.weight) == ({"loss": 1.0}, 1, 1.0)


def test_keys_come_in_the_order_of_the_model_that_was_sent():
    shapes = {"a": (1,), "b": (2,)}
    swapped = {"b": np.ones(2), "a": np.ones(1)}
    for combine in (mean_of, merged):
        out = combine(reply(swapped), reply(dict(reversed(swapped.items()))), shapes=shapes)
        assert list(out.arrays) == ["a", "b"]
        assert out.arrays["b"].view().tolist() == [1.0, 1.0]


def test_small_and_large_models_sum_alike():
    # A small model is summed as one vector, a large one array by array: the bits are the same.
    rng = np.random.default_rng(0)
    small = [rng.standard_normal(100).astype(np.float32) for _ in range(3)]
    alone = mean_of(*(reply({"w": w}, n + 1) for n, w in enumerate(small)))
    padding = np.zeros(1 << 16, np.float32)
    padded = mean_of(*(reply({"w": w, "pad": padding}, n + 1) for n, w in enumerate(small)))
    assert padded.arrays["w"] == alone.arrays["w"]


def test_replies_with_the_wrong_records_are_rejected():
    metrics = MetricRecord({"num-examples": 1})
    two = RecordDict({"a": ArrayRecord([np.ones(1)]), "b": ArrayRecord([np.ones(1)]), "m": metrics})
    for content in (RecordDict(), RecordDict({"m": metrics}), two):
        with pytest.raises(RejectedReply, match="not one of each"):
            mean_of(content)


def test_no_arrays_in_the_record_is_a_model_of_none():
    out = mean_of(reply({}, 2, loss=1.0))
    assert len(out.arrays) == 0
    assert dict(out.metrics) == {"loss": 1.0}


def test_an_aggregator_travels():
    aggregator = pickle.loads(pickle.dumps(WeightedMean("n", shapes={"w": (2,)})))
    assert (aggregator.weighted_by, aggregator.shapes) == ("n", {"w": (2,)})
