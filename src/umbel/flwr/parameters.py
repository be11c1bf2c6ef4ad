"""The older API's models: a list of byte strings, each a serialised array."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from umbel.base import RecordError
from umbel.records import Array, ArrayRecord

NDArray = np.ndarray[Any, Any]
NDArrays = list[NDArray]
NUMPY = "numpy.ndarray"


class Parameters:
    """A model as serialised arrays.

    Arrays that came as arrays are kept as such, and serialised only when ``tensors`` is read.

    Parameters
    ----------
    tensors : list of bytes
        One string of bytes for each array.
    tensor_type : str
        How they are serialised; ``"numpy.ndarray"`` is the ``.npy`` format.

    Examples
    --------
    >>> parameters = ndarrays_to_parameters([np.zeros(2)])
    >>> len(parameters.tensors), parameters.tensor_type
    (1, 'numpy.ndarray')
    """

    def __init__(self, tensors: list[bytes], tensor_type: str) -> None:
        self._tensors: list[bytes] | None = tensors
        self._record: ArrayRecord | None = None
        self.tensor_type = tensor_type

    @classmethod
    def from_record(cls, record: ArrayRecord) -> Parameters:
        """Return the arrays of a record, shared and in order."""
        parameters = cls([], NUMPY)
        parameters._tensors, parameters._record = None, record
        return parameters

    @property
    def tensors(self) -> list[bytes]:
        """The serialised arrays, which may be changed."""
        if self._tensors is None:
            record = self._record or ArrayRecord()
            self._tensors = [ndarray_to_bytes(view) for view in record.views().values()]
            self._record = None  # whoever has the list may change it
        return self._tensors

    @tensors.setter
    def tensors(self, value: list[bytes]) -> None:
        self._tensors, self._record = value, None

    def to_record(self) -> ArrayRecord:
        """Return the arrays under the names ``"0"``, ``"1"``, ...

        Serialised in a way of the app's own, each is one array of bytes.
        """
        if self._record is not None:
            return ArrayRecord(dict(zip(_names(), self._record.values(), strict=False)))
        if self.tensor_type == NUMPY:
            arrays = [Array(np.load(io.BytesIO(t), allow_pickle=False)) for t in self.tensors]
        else:
            arrays = [Array(np.frombuffer(tensor, np.uint8)) for tensor in self.tensors]
        return ArrayRecord(dict(zip(_names(), arrays, strict=False)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parameters):
            return NotImplemented
        return (self.tensors, self.tensor_type) == (other.tensors, other.tensor_type)

    __hash__ = None  # type: ignore[assignment]  # the values may change

    def __repr__(self) -> str:
        if self._record is not None:
            return f"Parameters({len(self._record)} arrays, {self.tensor_type!r})"
        return f"Parameters({len(self.tensors)} tensors, {self.tensor_type!r})"


def _names() -> Iterable[str]:
    number = 0
    while True:
        yield str(number)
        number += 1


def record_to_parameters(record: ArrayRecord, tensor_type: str = NUMPY) -> Parameters:
    """Return what ``Parameters.to_record`` made a record of."""
    if tensor_type == NUMPY:
        return Parameters.from_record(record)
    return Parameters([view.tobytes() for view in record.views().values()], tensor_type)


def ndarrays_to_parameters(ndarrays: Iterable[Any]) -> Parameters:
    """Return arrays as ``Parameters``; they are shared, not copied."""
    return Parameters.from_record(ArrayRecord([np.asarray(array) for array in ndarrays]))


def parameters_to_ndarrays(parameters: Parameters) -> NDArrays:
    """Return the arrays, which are the caller's own and may be changed.

    Raises
    ------
    RecordError
        They are serialised in a way of the app's own.
    """
    if parameters.tensor_type != NUMPY:
        raise RecordError(
            f"parameters of type {parameters.tensor_type!r} are no NumPy arrays",
            hint="read parameters.tensors and decode them as the client encoded them",
        )
    return parameters.to_record().to_numpy_ndarrays()


def ndarray_to_bytes(ndarray: NDArray) -> bytes:
    """Return an array in the ``.npy`` format."""
    file = io.BytesIO()
    np.save(file, ndarray, allow_pickle=False)
    return file.getvalue()


def bytes_to_ndarray(tensor: bytes) -> NDArray:
    """Return the array that ``ndarray_to_bytes`` serialised."""
    array: NDArray = np.load(io.BytesIO(tensor), allow_pickle=False)
    return array
