"""JAX: pytrees to named NumPy arrays and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umbel.base import MissingDependency, RecordError


def pytree_to_ndarrays(tree: Any) -> dict[str, NDArray[Any]]:
    """Return the leaves by path: ``{"dense": {"kernel": k}}`` gives ``{"dense/kernel": k}``.

    Raises
    ------
    RecordError
        If two leaves have the same path, or a leaf is not made of numbers.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, leaf in _named_leaves(tree)[0]:
        if name in arrays:
            raise RecordError(
                "two leaves of the pytree have the same path",
                hint="rename a key that contains '/'",
                key=name,
            )
        arrays[name] = _to_ndarray(name, leaf)
    return arrays


def ndarrays_to_pytree(arrays: Mapping[str, NDArray[Any]], like: Any) -> Any:
    """Return a pytree with the structure, shapes and dtypes of ``like`` and the values given.

    Raises
    ------
    RecordError
        If names or shapes differ.
    """
    named, structure = _named_leaves(like)
    missing = [name for name, _ in named if name not in arrays]
    extra = set(arrays) - {name for name, _ in named}
    if missing or extra:
        raise RecordError(
            f"the record does not have the leaves of the pytree: missing {missing[:5]}, "
            f"not in the tree {sorted(extra)[:5]}"
        )
    leaves = [_to_leaf(name, arrays[name], leaf) for name, leaf in named]
    return _jax().tree_util.tree_unflatten(structure, leaves)


def _jax() -> Any:
    try:
        import jax
    except ImportError as error:
        raise MissingDependency("a pytree needs JAX", hint='pip install "umbel[jax]"') from error
    return jax


def _named_leaves(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
    tree_util = _jax().tree_util
    leaves, structure = tree_util.tree_flatten_with_path(tree)
    return [("/".join(map(_step, path)), leaf) for path, leaf in leaves], structure


def _step(entry: Any) -> str:
    """Return one step of a path: a key of a mapping, a position in a list, or a field's name."""
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def _to_ndarray(name: str, leaf: Any) -> NDArray[Any]:
    try:
        return np.asarray(leaf)
    except TypeError as error:
        raise RecordError(
            f"a leaf of type {type(leaf).__name__} is not made of numbers",
            hint="take jax.random.key_data(key) of a random key",
            key=name,
        ) from error


def _to_leaf(name: str, values: NDArray[Any], like: Any) -> Any:
    if values.shape != np.shape(like):
        raise RecordError(
            f"an array of shape {values.shape} cannot replace a leaf of shape {np.shape(like)}",
            key=name,
        )
    jax = _jax()
    if isinstance(like, jax.Array):
        # A copy, because JAX may otherwise keep the buffer, which is not ours to promise.
        return jax.numpy.array(values, dtype=like.dtype, copy=True)
    if isinstance(like, np.ndarray):
        return values.astype(like.dtype)
    return type(like)(values.item())
