"""One tree of XGBoost's as JSON: whether it is sound."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from umbel.updates.arrays import NDArray

Kind = TypeVar("Kind")


class Malformed(Exception):
    """A document is not of the form it should have; the text says where."""


def check_tree(tree: Any, features: int) -> None:
    """Raise :class:`Malformed` if a tree, or whoever walks it, would leave its arrays.

    Parameters
    ----------
    tree : dict
        A tree as XGBoost writes it.
    features : int
        The number of columns that it may ask for.
    """
    sizes = entry(tree, "tree_param", dict)
    count, width = whole(sizes, "num_nodes"), max(1, whole(sizes, "size_leaf_vector"))
    if count < 1:
        raise Malformed("it has no node")
    left = wholes(tree, "left_children", -1, count - 1, count)
    right = wholes(tree, "right_children", -1, count - 1, count)
    inner = left != -1
    # Who is nobody's child twice, and the root nobody's, is reached on one way: there is no loop.
    children = np.concatenate([left[inner], right[inner]])
    if (children < 1).any() or len(np.unique(children)) < len(children):
        raise Malformed("its nodes are no tree")
    columns = wholes(tree, "split_indices", 0, 2**32 - 1, count)  # of deleted nodes it is the last
    if (columns[inner] >= features).any():
        raise Malformed(f"it splits a column that is none of {features}")
    wholes(tree, "default_left", 0, 1, count)
    wholes(tree, "split_type", 0, 1, count)
    wholes(tree, "parents", -1, 2**31 - 1, count)
    splits = floats(tree, "split_conditions", count, finite=False)
    if np.isnan(splits).any() or not np.isfinite(splits[~inner]).all():
        raise Malformed("split_conditions holds NaN or infinity")
    floats(tree, "loss_changes", count, finite=False)
    floats(tree, "sum_hessian", count, finite=False)
    floats(tree, "base_weights", count * width)
    if width > 1 and "leaf_weights" in tree:  # vectors, which leaves point at
        weights = floats(tree, "leaf_weights")
        if len(weights) % width or (right[~inner] >= len(weights) // width).any():
            raise Malformed("its leaves point beyond leaf_weights")
    _check_categories(tree, count)


def _check_categories(tree: dict[str, Any], count: int) -> None:
    categories = wholes(tree, "categories", 0, 2**31 - 1)
    nodes = wholes(tree, "categories_nodes", 0, count - 1)
    begins = wholes(tree, "categories_segments", 0, len(categories), len(nodes))
    sizes = wholes(tree, "categories_sizes", 0, len(categories), len(nodes))
    if (begins + sizes > len(categories)).any():
        raise Malformed("categories_segments points beyond categories")


def entry(document: Any, key: str, kind: type[Kind]) -> Kind:
    """Return what stands under a key, if it is of this type."""
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, kind):
        raise Malformed(f"{key} is missing or no {kind.__name__}")
    return value


def whole(document: dict[str, Any], key: str) -> int:
    """Return a number from 0, which XGBoost writes as text."""
    text = entry(document, key, str)
    if not (text.isascii() and text.isdigit() and len(text) < 11):
        raise Malformed(f"{key} is {text[:20]!r}, not a whole number")
    return int(text)


def wholes(
    document: dict[str, Any], key: str, least: int, most: int, count: int | None = None
) -> NDArray:
    """Return a list of whole numbers in this range, as an array of int64."""
    values = _array(document, key, "bi", count).astype(np.int64)
    if values.size and not (least <= values.min() and values.max() <= most):
        raise Malformed(f"{key} leaves the range from {least} to {most}")
    return values


def floats(
    document: dict[str, Any], key: str, count: int | None = None, *, finite: bool = True
) -> NDArray:
    """Return a list of numbers, as an array of float64."""
    values = _array(document, key, "bif", count).astype(np.float64)
    if finite and not np.isfinite(values).all():
        raise Malformed(f"{key} holds NaN or infinity")
    return values


def _array(document: dict[str, Any], key: str, kinds: str, count: int | None) -> NDArray:
    listed = entry(document, key, list)
    if count is not None and len(listed) != count:
        raise Malformed(f"{key} has {len(listed)} entries, not {count}")
    try:
        values = np.array(listed)
    except ValueError:  # lists of different lengths in it
        raise Malformed(f"{key} is no list of numbers") from None
    if values.ndim != 1 or (values.size and values.dtype.kind not in kinds):
        raise Malformed(f"{key} is no list of numbers")
    return values
