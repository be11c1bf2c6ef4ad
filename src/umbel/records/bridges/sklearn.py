"""scikit-learn: the fitted attributes of an estimator to named NumPy arrays and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umbel.base import RecordError


def fitted_attributes(
    estimator: Any, names: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays that fitting left; those of a list are named ``coefs_.0``, ``coefs_.1``.

    Raises
    ------
    RecordError
        If the estimator is not fitted, or an attribute named is not made of arrays.
    """
    chosen = [n for n in vars(estimator) if _is_fitted(n)] if names is None else names
    arrays: dict[str, NDArray[Any]] = {}
    for name in chosen:
        value = getattr(estimator, name, None)
        if _is_array(value):
            arrays[name] = np.asarray(value)
        elif isinstance(value, list) and value and all(map(_is_array, value)):
            arrays.update((f"{name}.{i}", np.asarray(part)) for i, part in enumerate(value))
        elif names is not None:
            raise RecordError(
                f"{type(estimator).__name__} has no arrays in this attribute",
                hint="fit the estimator first, or choose other attributes",
                key=name,
            )
    if not arrays:
        raise RecordError(
            f"{type(estimator).__name__} has no fitted arrays",
            hint="fit it first, for example on a few rows, or set coef_ and intercept_ to zeros",
        )
    return arrays


def set_fitted_attributes(estimator: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Set the attributes that ``fitted_attributes`` returned; the arrays are kept, not copied.

    Raises
    ------
    RecordError
        If a name is not that of a fitted attribute.
    """
    lists: dict[str, list[NDArray[Any]]] = {}
    for key, array in arrays.items():
        name, _, index = key.partition(".")
        if not _is_fitted(name) or (index and index != str(len(lists.get(name, ())))):
            raise RecordError(
                "an estimator has no fitted attribute of this name",
                hint="fitted attributes end in '_', and lists of them count from 0",
                key=key,
            )
        if index:
            lists.setdefault(name, []).append(array)
        else:
            # A NumPy scalar was a scalar before, and estimators compare it as one.
            setattr(estimator, name, array if array.ndim else array[()])
    for name, parts in lists.items():
        setattr(estimator, name, parts)


def _is_fitted(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject
