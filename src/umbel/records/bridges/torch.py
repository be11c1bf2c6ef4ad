"""PyTorch: tensors to NumPy arrays and back, on the CPU without a copy.

NumPy has no bfloat16 and no float8 of its own; ``ml_dtypes`` gives it both, and the bits go
through an integer view of the same width, because neither library reads the other's types.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from umbel.base import MissingDependency, RecordError
from umbel.records.dtypes import dtype_of, name_of

if TYPE_CHECKING:
    import torch

_CARRIERS = {
    "bfloat16": "int16",
    "float8_e4m3fn": "uint8",
    "float8_e5m2": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2fnuz": "uint8",
    "float8_e8m0fnu": "uint8",
}


def is_tensor(value: object) -> bool:
    """Return whether the value is a torch tensor; torch is not imported for it."""
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(value, kind)


def tensor_to_ndarray(tensor: Any) -> NDArray[Any]:
    """Return the tensor's values; the memory is shared if the tensor is on the CPU.

    Raises
    ------
    RecordError
        If the tensor has no plain values: sparse, quantised, or on the meta device.
    """
    torch = sys.modules["torch"]
    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise RecordError(
            f"a tensor without plain values cannot be sent (layout {tensor.layout}, "
            f"device {tensor.device}, dtype {tensor.dtype})",
            hint="call to_dense() or dequantize() first, or load the weights of a meta tensor",
        )
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    carrier = _CARRIERS.get(name)
    if carrier is not None:
        bits: NDArray[Any] = tensor.view(getattr(torch, carrier)).numpy()
        return bits.view(dtype_of(name))
    try:
        values: NDArray[Any] = tensor.numpy()
    except TypeError as error:
        raise RecordError(
            f"NumPy has no dtype for a tensor of {tensor.dtype}", hint="cast it first"
        ) from error
    return values


def ndarray_to_tensor(ndarray: NDArray[Any]) -> torch.Tensor:
    """Return a tensor that shares the memory of a writable array in the machine's byte order."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependency(
            "a torch state dict needs torch", hint='pip install "umbel[torch]"'
        ) from error
    name = name_of(ndarray.dtype)
    carrier = _CARRIERS.get(name)
    try:
        if carrier is not None:
            bits = torch.from_numpy(ndarray.view(np.dtype(carrier)))
            return bits.view(getattr(torch, name))
        return torch.from_numpy(ndarray)
    except (TypeError, AttributeError) as error:
        raise RecordError(
            f"torch has no dtype for an array of {name}", hint="cast it first"
        ) from error
