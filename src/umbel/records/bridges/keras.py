"""Keras: the weights of a model to NumPy arrays and back, whatever its backend.

Weights go by their order, because their names count the models built before in the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from umbel.base import MissingDependency, RecordError


def model_weights(model: Any) -> list[NDArray[Any]]:
    """Return the weights of a model in order, trainable or not."""
    try:
        from keras import ops
    except ImportError as error:
        raise MissingDependency(
            "the weights of a model need Keras 3", hint="pip install 'keras>=3'"
        ) from error
    return [ops.convert_to_numpy(weight.value) for weight in model.weights]


def load_model_weights(model: Any, arrays: Sequence[NDArray[Any]]) -> None:
    """Set the weights of a model.

    Raises
    ------
    RecordError
        If the number of arrays or a shape differs from the model's.
    """
    weights = model.weights
    if len(weights) != len(arrays):
        raise RecordError(
            f"the model has {len(weights)} weights and the record {len(arrays)} arrays",
            hint="build the model (call it once, or give it an Input) before loading weights",
        )
    for index, (weight, array) in enumerate(zip(weights, arrays, strict=True)):
        if tuple(weight.shape) != array.shape:
            raise RecordError(
                f"an array of shape {array.shape} cannot replace a weight of shape "
                f"{tuple(weight.shape)}",
                key=str(index),
            )
    model.set_weights(arrays)
