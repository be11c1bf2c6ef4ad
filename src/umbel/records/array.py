"""One array: a buffer with a dtype and a shape."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from umbel.base import RecordError
from umbel.records.bridges.torch import is_tensor, tensor_to_ndarray
from umbel.records.dtypes import NATIVE_IS_LITTLE, dtype_of, name_of

if TYPE_CHECKING:
    import torch

_ndarray = np.ndarray
_Buffer = bytes | bytearray | memoryview


class Array:
    """An array that travels in a message.

    It holds the buffer it was given without a copy, so a later change of that buffer shows. Arrays
    that are not contiguous or not little-endian are kept as they are and laid out when they are
    encoded.

    Parameters
    ----------
    ndarray : numpy.ndarray or torch.Tensor or array-like
        Any shape (0-d and empty too) and any dtype but ``object``; also anything that converts
        itself to NumPy, such as a JAX array. A string here is the dtype's name in the form
        ``Array(dtype, shape, stype, data)``.
    shape : tuple of int, optional
        The shape, when the array is given as bytes.
    stype : {"raw", "numpy.ndarray"}, optional
        How ``data`` is laid out: ``"raw"`` is little-endian and in C order; ``"numpy.ndarray"`` is
        an ``.npy`` file.
    data : bytes-like, optional
        The bytes of the array.

    Raises
    ------
    RecordError
        If the values are Python objects, or the bytes do not fit the dtype and the shape.

    Examples
    --------
    >>> import numpy as np
    >>> array = Array(np.arange(6, dtype="float32").reshape(2, 3))
    >>> array
    Array(dtype='float32', shape=(2, 3))
    >>> Array("int16", (2,), "raw", bytes([1, 0, 2, 0])).numpy().tolist()
    [1, 2]
    """

    __slots__ = ("_array",)

    _array: NDArray[Any]

    @overload
    def __init__(self, ndarray: object) -> None: ...
    @overload
    def __init__(self, *, torch_tensor: torch.Tensor) -> None: ...
    @overload
    def __init__(
        self, dtype: str, /, shape: tuple[int, ...], stype: str, data: _Buffer
    ) -> None: ...
    @overload
    def __init__(
        self, *, dtype: str, shape: tuple[int, ...], stype: str, data: _Buffer
    ) -> None: ...

    def __init__(
        self,
        ndarray: object = None,
        shape: tuple[int, ...] | None = None,
        stype: str | None = None,
        data: _Buffer | None = None,
        *,
        dtype: str | None = None,
        torch_tensor: object = None,
    ) -> None:
        # Exact type and nothing else: the case that a simulation meets millions of times.
        if type(ndarray) is _ndarray and shape is None and not ndarray.dtype.hasobject:
            self._array = ndarray
            return
        if isinstance(ndarray, str):
            dtype, ndarray = ndarray, None
        if dtype is not None:
            if ndarray is not None or shape is None or data is None:
                raise RecordError(
                    "an array from bytes needs dtype, shape, stype and data",
                    hint='for example Array("float32", (2, 3), "raw", data)',
                )
            self._array = _from_bytes(dtype, tuple(shape), stype or "raw", data)
            return
        if shape is not None or stype is not None or data is not None:
            raise RecordError("shape, stype and data go with a dtype's name, not with an array")
        self._array = _to_ndarray(ndarray if torch_tensor is None else torch_tensor)

    @classmethod
    def wrap(cls, ndarray: NDArray[Any]) -> Self:
        """Return an Array around an ndarray that is known to hold no Python objects."""
        array = object.__new__(cls)
        array._array = ndarray
        return array

    @classmethod
    def from_numpy_ndarray(cls, ndarray: NDArray[Any]) -> Self:
        """Return an Array that shares the memory of ``ndarray``."""
        return cls(ndarray)

    @classmethod
    def from_torch_tensor(cls, tensor: torch.Tensor) -> Self:
        """Return an Array that shares the memory of ``tensor`` if that is on the CPU."""
        return cls.wrap(tensor_to_ndarray(tensor))

    @property
    def dtype(self) -> str:
        """The name of the dtype, such as ``"float32"`` or ``"bfloat16"``."""
        return name_of(self._array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape; ``()`` for a single value."""
        return self._array.shape

    @property
    def stype(self) -> str:
        """How ``data`` is laid out; always ``"raw"``: little-endian and in C order."""
        return "raw"

    @property
    def nbytes(self) -> int:
        """The size of ``data`` in bytes."""
        return self._array.nbytes

    @property
    def frozen(self) -> bool:
        """Whether nobody can change the values: the buffer is its own and read-only."""
        flags = self._array.flags
        return flags.owndata and not flags.writeable

    @property
    def data(self) -> memoryview:
        """The values as read-only bytes, little-endian and in C order; no copy if they are so."""
        return little_endian_bytes(self._array).toreadonly()

    def numpy(self) -> NDArray[Any]:
        """Return a writable copy, in C order and in the machine's byte order."""
        return np.array(self._array, dtype=self._array.dtype.newbyteorder("="), order="C")

    def view(self) -> NDArray[Any]:
        """Return a read-only view, without a copy."""
        if not self._array.flags.writeable:
            return self._array
        view = self._array.view()
        view.flags.writeable = False
        return view

    def release(self) -> NDArray[Any]:
        """Return a writable array that may be the buffer itself; the Array is not used again."""
        flags, dtype = self._array.flags, self._array.dtype
        as_numpy_gives_it = flags.writeable and flags.c_contiguous and dtype.isnative
        return self._array if as_numpy_gives_it else self.numpy()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array):
            return NotImplemented
        mine, theirs = self._array, other._array
        if mine.shape != theirs.shape or self.dtype != other.dtype:
            return False
        if not mine.nbytes:
            return True
        # Bytes, not values, so that NaN equals itself.
        return np.array_equal(
            np.frombuffer(little_endian_bytes(mine), np.uint8),
            np.frombuffer(little_endian_bytes(theirs), np.uint8),
        )

    __hash__ = None  # type: ignore[assignment]  # the values may change

    def __repr__(self) -> str:
        return f"Array(dtype={self.dtype!r}, shape={self.shape})"


def little_endian_bytes(array: NDArray[Any]) -> memoryview:
    """Return the values as bytes, little-endian and in C order; no copy if they lie so already."""
    if not array.nbytes:
        return memoryview(b"")
    dtype = array.dtype
    if not (NATIVE_IS_LITTLE and dtype.isnative):
        array = array.astype(dtype.newbyteorder("<"), order="C", copy=False)
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    return array.reshape(-1).view(np.uint8).data


def _to_ndarray(value: object) -> NDArray[Any]:
    if is_tensor(value):
        return tensor_to_ndarray(value)
    if isinstance(value, Array):
        return value._array
    if isinstance(value, np.ma.MaskedArray):
        raise RecordError(
            "a masked array would lose its mask", hint="fill it first: array.filled(0)"
        )
    if not hasattr(value, "__array__"):
        raise RecordError(
            f"an array cannot be made from {type(value).__name__}",
            hint="convert it first: numpy.asarray(value)",
        )
    ndarray = np.asarray(value)
    name_of(ndarray.dtype)  # refuses Python objects
    return ndarray


def _from_bytes(dtype_name: str, shape: tuple[int, ...], stype: str, data: _Buffer) -> NDArray[Any]:
    dtype = dtype_of(dtype_name)
    if any(type(length) is not int or length < 0 for length in shape):
        raise RecordError(f"a shape is made of non-negative integers, got {shape}")
    if stype == "numpy.ndarray":
        return _from_npy(dtype, shape, data)
    if stype != "raw":
        raise RecordError(f"unknown stype {stype!r}", hint='use "raw" or "numpy.ndarray"')
    view = memoryview(data).cast("B")
    expected = math.prod(shape) * dtype.itemsize
    if view.nbytes != expected:
        raise RecordError(
            f"{view.nbytes} bytes do not make an array of dtype {dtype_name} and shape {shape}, "
            f"which takes {expected}"
        )
    return np.ndarray(shape, dtype, view if expected else None)


def _from_npy(dtype: np.dtype[Any], shape: tuple[int, ...], data: _Buffer) -> NDArray[Any]:
    try:
        # Without pickle, so that bytes from a stranger stay bytes.
        array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RecordError(f"the bytes are not an .npy file: {error}") from error
    if array.shape != shape or name_of(array.dtype) != name_of(dtype):
        raise RecordError(
            f"the .npy file holds dtype {array.dtype} and shape {array.shape}, "
            f"not {dtype} and {shape}"
        )
    return array
