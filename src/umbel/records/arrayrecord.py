"""A model as named arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from umbel.base import RecordError
from umbel.records.array import Array
from umbel.records.bridges.jax import ndarrays_to_pytree, pytree_to_ndarrays
from umbel.records.bridges.keras import load_model_weights, model_weights
from umbel.records.bridges.sklearn import fitted_attributes, set_fitted_attributes
from umbel.records.bridges.torch import ndarray_to_tensor
from umbel.records.mapping import CheckedMapping, check_key

if TYPE_CHECKING:
    import torch

_Named = Mapping[str, Any]
_Listed = Sequence[Any]


class ArrayRecord(CheckedMapping[Array]):
    """Named arrays in order, such as the weights of a model.

    Parameters
    ----------
    arrays : mapping or sequence, optional
        A mapping from names to Array, ndarray or tensor (a torch state dict), or a sequence of
        ndarrays, which are named ``"0"``, ``"1"``, and so on. Buffers are shared, not copied.
    array_dict, numpy_ndarrays, torch_state_dict : mapping or sequence, optional
        The same, by name.
    keep_input : bool
        False empties the mapping or list given while it is read.

    Raises
    ------
    RecordError
        If a key is no string, or a value cannot be held as an Array.

    Examples
    --------
    >>> import numpy as np
    >>> record = ArrayRecord([np.zeros((2, 3)), np.ones(3)])
    >>> list(record), record["1"].shape, record.count_bytes()
    (['0', '1'], (3,), 72)
    """

    __slots__ = ()
    holds = "array"

    def __init__(
        self,
        arrays: _Named | _Listed | None = None,
        *,
        array_dict: _Named | None = None,
        numpy_ndarrays: _Listed | None = None,
        torch_state_dict: _Named | None = None,
        keep_input: bool = True,
    ) -> None:
        self._items = {}
        given = [
            source
            for source in (arrays, array_dict, numpy_ndarrays, torch_state_dict)
            if source is not None
        ]
        if len(given) > 1:
            raise RecordError("an ArrayRecord is made from one source of arrays, got several")
        if given:
            self._fill(given[0], keep_input)

    def _fill(self, source: _Named | _Listed, keep_input: bool) -> None:
        named: list[tuple[Any, Any]]
        if isinstance(source, Mapping):
            named = [(key, key) for key in source]
        elif isinstance(source, list | tuple):
            # A tuple cannot be emptied.
            keep_input = keep_input or isinstance(source, tuple)
            named = [(str(index), index) for index in range(len(source))]
        else:
            raise RecordError(
                f"an ArrayRecord cannot be made from {type(source).__name__}",
                hint="give it a dict from names to arrays, or a list of arrays",
            )
        for name, key in named:
            value = source[key]
            if not keep_input:
                # Lets go of each input as soon as it is converted, before the next one.
                source[key] = None  # type: ignore[index]
            self._items[name] = self._admit(name, value)
        if not keep_input:
            source.clear()  # type: ignore[union-attr]

    def _admit(self, key: object, value: Any) -> Array:
        if type(key) is not str:
            check_key(key)
        if type(value) is Array:
            return value
        try:
            return Array(value)
        except RecordError as error:
            error.context.setdefault("key", key)
            raise

    @classmethod
    def from_array_dict(cls, array_dict: _Named, *, keep_input: bool = True) -> Self:
        """Return a record of the Arrays or ndarrays of a mapping."""
        return cls(array_dict, keep_input=keep_input)

    @classmethod
    def from_numpy_ndarrays(cls, ndarrays: _Listed, *, keep_input: bool = True) -> Self:
        """Return a record of a list of ndarrays, named ``"0"``, ``"1"``, and so on."""
        return cls(ndarrays, keep_input=keep_input)

    @classmethod
    def from_torch_state_dict(cls, state_dict: _Named, *, keep_input: bool = True) -> Self:
        """Return a record of a torch state dict; tensors on the CPU share their memory."""
        return cls(state_dict, keep_input=keep_input)

    @classmethod
    def from_pytree(cls, tree: Any) -> Self:
        """Return a record of the leaves of a JAX pytree, each named by its path.

        A leaf at ``tree["dense"]["kernel"]`` is named ``"dense/kernel"``.
        """
        return cls(pytree_to_ndarrays(tree))

    @classmethod
    def from_keras(cls, model: Any) -> Self:
        """Return a record of a Keras 3 model's weights, in the order of ``model.weights``."""
        return cls(model_weights(model))

    @classmethod
    def from_sklearn(cls, estimator: Any, names: Sequence[str] | None = None) -> Self:
        """Return a record of a fitted estimator's arrays: ``coef_``, ``intercept_``, ...

        Parameters
        ----------
        estimator : sklearn.base.BaseEstimator
            A fitted estimator.
        names : sequence of str, optional
            The attributes to take; all fitted ones that are arrays, NumPy scalars or lists of
            arrays by default.
        """
        return cls(fitted_attributes(estimator, names))

    def to_numpy_ndarrays(self, *, keep_input: bool = True) -> list[NDArray[Any]]:
        """Return the values as writable arrays, in order.

        Parameters
        ----------
        keep_input : bool
            False hands out the buffers themselves where they are writable, and empties the record.
        """
        return list(self._writable(keep_input).values())

    def to_torch_state_dict(self, *, keep_input: bool = True) -> OrderedDict[str, torch.Tensor]:
        """Return the values as tensors on the CPU that may be written to.

        Parameters
        ----------
        keep_input : bool
            False hands out the buffers themselves where they are writable, and empties the record.
        """
        return OrderedDict(
            (key, ndarray_to_tensor(array)) for key, array in self._writable(keep_input).items()
        )

    def to_pytree(self, like: Any) -> Any:
        """Return a JAX pytree with the structure, shapes and dtypes of ``like`` and these values.

        Raises
        ------
        RecordError
            If names or shapes differ.
        """
        return ndarrays_to_pytree(self.views(), like)

    def to_keras(self, model: Any) -> None:
        """Set the weights of a Keras model, in order.

        Raises
        ------
        RecordError
            If the number of arrays or a shape differs from the model's.
        """
        load_model_weights(model, list(self.views().values()))

    def to_sklearn(self, estimator: Any) -> None:
        """Set the fitted attributes of an estimator; ``from_sklearn`` read them."""
        set_fitted_attributes(estimator, self._writable(keep_input=True))

    def _writable(self, keep_input: bool) -> dict[str, NDArray[Any]]:
        if keep_input:
            return {key: array.numpy() for key, array in self._items.items()}
        items, self._items = self._items, {}
        # Popping lets go of each buffer that had to be copied before the next copy is made.
        return {key: items.pop(key).release() for key in list(items)}

    def views(self) -> dict[str, NDArray[Any]]:
        """Return read-only views of the values by name, without a copy."""
        return {key: array.view() for key, array in self._items.items()}

    def lent(self) -> dict[str, NDArray[Any]]:
        """Return the buffers themselves by name, which must be neither kept nor changed."""
        return {key: array._array for key, array in self._items.items()}

    def count_bytes(self) -> int:
        """Return the size of all values in bytes."""
        return sum(array.nbytes for array in self._items.values())
