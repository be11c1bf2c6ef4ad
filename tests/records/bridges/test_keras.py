import sys

import numpy as np
import pytest

from umbel.base import MissingDependency, RecordError
from umbel.records.arrayrecord import ArrayRecord

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def keras():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        pytest.importorskip("jax")
        return pytest.importorskip("keras")


def build(keras, units=3):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=0),
        ]
    )


def test_weights_go_by_their_order(keras):
    model = build(keras)
    weights = [np.full(shape, i, "float32") for i, shape in enumerate([(4, 3), *[(3,)] * 5])]
    model.set_weights(weights)
    assert ArrayRecord.from_keras(model) == ArrayRecord(weights)


def test_a_second_model_takes_the_weights_of_the_first(keras):
    first, second = build(keras), build(keras)
    x = np.ones((2, 4), "float32")
    assert not np.allclose(first(x), second(x))
    ArrayRecord.from_keras(first).to_keras(second)
    assert np.array_equal(first(x), second(x))


def test_half_precision_is_kept(keras):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, dtype="bfloat16")])
    record = ArrayRecord.from_keras(model)
    assert [array.dtype for array in record.values()] == ["bfloat16", "bfloat16"]
    record.to_keras(model)
    assert ArrayRecord.from_keras(model) == record


def test_without_keras_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingDependency, match="Keras 3"):
        ArrayRecord.from_keras(object())


def test_weights_of_another_model_are_refused(keras):
    record = ArrayRecord.from_keras(build(keras))
    with pytest.raises(RecordError, match=r"shape \(4, 3\) cannot replace .* \(4, 5\)"):
        record.to_keras(build(keras, units=5))
    with pytest.raises(RecordError, match="0 weights and the record 6"):
        record.to_keras(keras.Sequential([keras.layers.Dense(3)]))
