"""Reading what a peer sent: every field has its type and its size, or the session stops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from umbel.base import SecAggAborted

Payload: TypeAlias = dict[str, bytes | int | list[int] | list[bytes]]
"""What one step sends: values that a ``ConfigRecord`` can hold."""

_NODE_END = 1 << 64


def read_bytes(payload: Mapping[str, Any], key: str, size: int, node: int | None = None) -> bytes:
    """Return the bytes under a key, of exactly ``size``.

    Raises
    ------
    SecAggAborted
        There are none, or of another size.
    """
    value = payload.get(key)
    if not isinstance(value, bytes) or len(value) != size:
        raise SecAggAborted(f"{key!r} must be {size} bytes", node=node, key=key)
    return value


def read_count(payload: Mapping[str, Any], key: str) -> int:
    """Return the number under a key, not negative.

    Raises
    ------
    SecAggAborted
        There is none, or it is negative.
    """
    value = payload.get(key)
    if not isinstance(value, int) or value < 0:
        raise SecAggAborted(f"{key!r} must be a number, not negative", key=key)
    return int(value)


def read_nodes(payload: Mapping[str, Any], key: str, node: int | None = None) -> list[int]:
    """Return the node ids under a key: ascending, none twice.

    Raises
    ------
    SecAggAborted
        It is not such a list.
    """
    value = payload.get(key)
    if not isinstance(value, list) or not all(
        type(item) is int and 0 <= item < _NODE_END for item in value
    ):
        raise SecAggAborted(f"{key!r} must be a list of node ids", node=node, key=key)
    if any(a >= b for a, b in pairwise(value)):
        raise SecAggAborted(
            f"{key!r} must be in ascending order and name no node twice", node=node, key=key
        )
    return list(value)


def read_each(
    payload: Mapping[str, Any], key: str, nodes: Sequence[int], size: int, node: int | None = None
) -> list[bytes]:
    """Return the bytes under a key, ``size`` of them for each node.

    Raises
    ------
    SecAggAborted
        There are more or fewer than nodes, or one has another size.
    """
    value = payload.get(key)
    if not isinstance(value, list) or len(value) != len(nodes):
        raise SecAggAborted(f"{key!r} must have one entry a node", node=node, key=key)
    for item in value:
        if not isinstance(item, bytes) or len(item) != size:
            raise SecAggAborted(f"each entry of {key!r} must be {size} bytes", node=node, key=key)
    return list(value)


def named(nodes: Iterable[int]) -> str:
    """Return node ids as text, the first few by name.

    Examples
    --------
    >>> named([3, 1, 2])
    '1, 2, 3'
    """
    known = sorted(nodes)
    shown = ", ".join(map(str, known[:5]))
    return f"{shown} and {len(known) - 5} more" if len(known) > 5 else shown
