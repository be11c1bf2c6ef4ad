"""clipping_mod against the definition, on every dtype, layout and edge it meets."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.base import UsageError
from umbel.clientapp import ClientApp, clipping_mod
from umbel.records import ArrayRecord, Context, Error, Message, MetricRecord, RecordDict

NDArray = np.ndarray[Any, Any]
Arrays = dict[str, NDArray]


def run(mod: Any, received: RecordDict, answer: Callable[[Message], Message]) -> Message:
    app = ClientApp(mods=[mod])
    app.train()(lambda message, context: answer(message))
    context = Context(run_id="r", node_id=1, node_config={}, state=RecordDict(), run_config={})
    return app(Message(received, 1, "train"), context)


def clipped(max_norm: float, before: Arrays, after: Arrays) -> Arrays:
    """Send ``before``, answer ``after``, and return what leaves the mod."""
    received = RecordDict({"arrays": ArrayRecord(before)})
    replied = RecordDict({"arrays": ArrayRecord(after)})
    reply = run(clipping_mod(max_norm), received, lambda m: Message(replied, reply_to=m))
    return {key: array.numpy() for key, array in reply.content["arrays"].items()}


def update_norm(before: Arrays, after: Arrays) -> float:
    return float(
        np.sqrt(
            sum(
                np.sum((after[key].astype(np.float64) - before[key].astype(np.float64)) ** 2)
                for key in before
            )
        )
    )


def test_all_arrays_are_scaled_alike_to_the_global_norm() -> None:
    rng = np.random.default_rng(1)
    before = {"a": rng.normal(size=(40, 30)), "b": rng.normal(size=7)}
    after = {key: array + rng.normal(size=array.shape) for key, array in before.items()}
    result = clipped(2.0, before, after)
    factor = 2.0 / update_norm(before, after)
    for key in before:
        expected = before[key] + factor * (after[key] - before[key])
        np.testing.assert_allclose(result[key], expected, rtol=1e-12)
    assert update_norm(before, result) == pytest.approx(2.0, rel=1e-12)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 1000),
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=4),
    max_norm=st.floats(1e-3, 1e3),
    size=st.floats(1e-3, 1e3),
)
def test_the_norm_never_exceeds_the_bound_and_the_direction_stays(
    seed: int, shapes: list[list[int]], max_norm: float, size: float
) -> None:
    rng = np.random.default_rng(seed)
    before = {str(i): np.asarray(rng.normal(size=shape)) for i, shape in enumerate(shapes)}
    after = {key: array + size * rng.normal(size=array.shape) for key, array in before.items()}
    result = clipped(max_norm, before, after)
    norm = update_norm(before, after)
    assert update_norm(before, result) == pytest.approx(min(norm, max_norm), rel=1e-9, abs=1e-12)
    for key in before:
        update, kept = after[key] - before[key], result[key] - before[key]
        np.testing.assert_allclose(kept, update * min(1.0, max_norm / (norm or 1.0)), atol=1e-9)


def test_arrays_larger_than_a_chunk() -> None:
    size = 100_003
    before, after = {"w": np.zeros(size)}, {"w": np.arange(size, dtype=np.float64)}
    result = clipped(3.0, before, after)
    expected = after["w"] * (3.0 / np.linalg.norm(after["w"]))
    np.testing.assert_allclose(result["w"], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (np.float64, 1e-12),
        (np.float32, 1e-6),
        (np.float16, 1e-2),
        (">f4", 1e-6),
        (np.longdouble, 1e-12),
        (ml_dtypes.bfloat16, 2e-2),
        (ml_dtypes.float8_e4m3fn, 0.2),
    ],
)
def test_dtypes_are_preserved(dtype: Any, tolerance: float) -> None:
    before = {"w": np.zeros(8, dtype)}
    after = {"w": np.full(8, 2.0).astype(dtype)}
    result = clipped(1.0, before, after)
    assert result["w"].dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_allclose(result["w"].astype(np.float64), np.sqrt(1 / 8), rtol=tolerance)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8])
def test_other_dtypes_are_left_alone(dtype: Any) -> None:
    before = {"w": np.zeros(2), "steps": np.zeros(3, dtype)}
    after = {"w": np.array([3.0, 4.0]), "steps": np.ones(3, dtype)}
    result = clipped(1.0, before, after)
    np.testing.assert_allclose(result["w"], [0.6, 0.8])
    np.testing.assert_array_equal(result["steps"], after["steps"])


def test_the_layout_does_not_change_a_bit() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.normal(size=(300, 400)), rng.normal(size=(300, 400))
    plain = clipped(1.0, {"w": before}, {"w": after})["w"]
    for first, second in (
        (before, np.asfortranarray(after)),
        (np.asfortranarray(before), after),
        (np.asfortranarray(before), np.repeat(after, 2, axis=1)[:, ::2]),
    ):
        result = clipped(1.0, {"w": first}, {"w": second})["w"]
        assert result.tobytes() == plain.tobytes()


@pytest.mark.parametrize("after", [[0.0, 0.0], [0.6, 0.8], [0.1, 0.0]])
def test_within_the_bound_nothing_is_written(after: list[float]) -> None:
    received = RecordDict({"arrays": ArrayRecord({"w": np.zeros(2)})})
    replied = RecordDict({"arrays": ArrayRecord({"w": np.array(after)})})
    array = replied["arrays"]["w"]
    reply = run(clipping_mod(1.0), received, lambda m: Message(replied, reply_to=m))
    assert reply.content is replied
    assert reply.content["arrays"]["w"] is array


def test_a_reply_with_the_received_arrays_themselves() -> None:
    received = RecordDict({"arrays": ArrayRecord({"w": np.full(2, 9.0)})})
    reply = run(clipping_mod(1.0), received, lambda m: Message(m.content, reply_to=m))
    np.testing.assert_array_equal(reply.content["arrays"]["w"].view(), [9.0, 9.0])


def test_a_handler_that_trains_in_the_buffers_it_received() -> None:
    def in_place(message: Message) -> Message:
        (weights,) = message.content["arrays"].to_numpy_ndarrays(keep_input=False)
        weights += [3.0, 4.0]
        return Message(RecordDict({"arrays": ArrayRecord({"w": weights})}), reply_to=message)

    received = RecordDict({"arrays": ArrayRecord({"w": np.zeros(2)})})
    reply = run(clipping_mod(1.0), received, in_place)
    np.testing.assert_allclose(reply.content["arrays"]["w"].view(), [0.6, 0.8])
    np.testing.assert_array_equal(received["arrays"]["w"].view(), [0.0, 0.0])


def test_the_records_that_the_handler_keeps_are_not_changed() -> None:
    received = RecordDict({"arrays": ArrayRecord({"w": np.zeros(2)})})
    kept = RecordDict(
        {"arrays": ArrayRecord({"w": np.array([3.0, 4.0])}), "metrics": MetricRecord({"n": 1})}
    )
    reply = run(clipping_mod(1.0), received, lambda m: Message(kept, reply_to=m))
    np.testing.assert_array_equal(kept["arrays"]["w"].view(), [3.0, 4.0])
    np.testing.assert_allclose(reply.content["arrays"]["w"].view(), [0.6, 0.8])
    assert dict(reply.content["metrics"]) == {"n": 1}


def test_a_handler_that_trains_inside_the_received_record() -> None:
    def in_place(message: Message) -> Message:
        arrays = message.content["arrays"]
        arrays["w"] = arrays["w"].numpy() + np.array([3.0, 4.0])
        return Message(message.content, reply_to=message)

    received = RecordDict({"arrays": ArrayRecord({"w": np.zeros(2)})})
    reply = run(clipping_mod(1.0), received, in_place)
    np.testing.assert_allclose(reply.content["arrays"]["w"].view(), [0.6, 0.8])


def test_only_shared_names_count() -> None:
    received = RecordDict(
        {"arrays": ArrayRecord({"w": np.zeros(2)}), "other": ArrayRecord({"v": np.zeros(1)})}
    )
    replied = RecordDict(
        {
            "arrays": ArrayRecord({"w": np.array([3.0, 4.0]), "new": np.full(1, 100.0)}),
            "control": ArrayRecord({"w": np.full(2, 100.0)}),
        }
    )
    reply = run(clipping_mod(1.0), received, lambda m: Message(replied, reply_to=m))
    np.testing.assert_allclose(reply.content["arrays"]["w"].view(), [0.6, 0.8])
    assert reply.content["arrays"]["new"].view() == 100.0
    np.testing.assert_array_equal(reply.content["control"]["w"].view(), [100.0, 100.0])


def test_replies_without_arrays_and_errors_pass() -> None:
    received = RecordDict({"arrays": ArrayRecord({"w": np.zeros(2)})})
    reply = run(clipping_mod(1.0), received, lambda m: Message(RecordDict(), reply_to=m))
    assert len(reply.content) == 0
    reply = run(clipping_mod(1.0), received, lambda m: Message(Error(2, "no data"), reply_to=m))
    assert reply.has_error()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_an_update_without_a_finite_norm(value: float) -> None:
    before = {"fine": np.zeros(2), "w": np.zeros(2)}
    after = {"fine": np.ones(2), "w": np.array([1.0, value])}
    with pytest.raises(UsageError, match=r"norm is not finite.*\(arrays: arrays/w\)"):
        clipped(1.0, before, after)


def test_a_changed_shape_is_named() -> None:
    with pytest.raises(UsageError, match=r"shape \(2,\) and was returned with shape \(1, 2\)"):
        clipped(1.0, {"w": np.zeros(2)}, {"w": np.zeros((1, 2))})


def test_no_shared_name_is_an_error_and_not_a_silent_pass() -> None:
    with pytest.raises(UsageError, match=r"nothing can be clipped.*arrays/w.*arrays/0"):
        clipped(1.0, {"w": np.zeros(2)}, {"0": np.zeros(2)})


@pytest.mark.parametrize("max_norm", [0, 0.0, -1.0, np.inf, np.nan])
def test_bounds_that_are_no_bounds(max_norm: float) -> None:
    with pytest.raises(UsageError, match="finite and above zero"):
        clipping_mod(max_norm)


def test_bounds_that_are_no_numbers() -> None:
    with pytest.raises(UsageError, match="not a number"):
        clipping_mod("1")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"clipping_mod makes a mod, call it"):
        ClientApp(mods=[clipping_mod])  # type: ignore[list-item]


def test_measuring_takes_no_memory_of_the_models_size() -> None:
    size = 2_000_000
    before, after = {"w": np.zeros(size, np.float32)}, {"w": np.full(size, 1e-6, np.float32)}
    received = RecordDict({"arrays": ArrayRecord(before)})
    replied = RecordDict({"arrays": ArrayRecord(after)})
    tracemalloc.start()
    run(clipping_mod(1.0), received, lambda m: Message(replied, reply_to=m))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
