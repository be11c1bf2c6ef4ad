"""The state of a transform as records, so that a checkpoint can hold it."""

from __future__ import annotations

from typing import Any

import numpy as np

from umbel.base import ConfigError
from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates.transform import State

_ARRAYS, _NUMBERS = "arrays", "numbers"


def pack_state(state: State) -> RecordDict:
    """Return a state as records: for each dictionary in it, one of its arrays, one of its numbers.

    Raises
    ------
    RecordError
        A value is neither an array nor a number nor a further state.

    Examples
    --------
    >>> state = {"0": {"m": {"w": np.ones(2)}}, "1": {"step": 3}}
    >>> packed = pack_state(state)
    >>> list(packed), packed["numbers/1"]["step"]
    (['arrays/0/m', 'numbers/1'], 3)
    >>> unpack_state(packed)["1"]
    {'step': 3}
    """
    records = RecordDict()

    def visit(node: State, path: str) -> None:
        # A NumPy scalar keeps its dtype as a 0-d array; as a Python number it would lose it.
        arrays = {
            n: np.asarray(v) for n, v in node.items() if isinstance(v, np.ndarray | np.generic)
        }
        states = {name: value for name, value in node.items() if isinstance(value, dict)}
        numbers = {n: v for n, v in node.items() if n not in arrays and n not in states}
        if arrays or not node:
            records[_ARRAYS + path] = ArrayRecord(arrays)
        if numbers:
            records[_NUMBERS + path] = MetricRecord(numbers)
        for name, inner in states.items():
            visit(inner, f"{path}/{name}")

    visit(state, "")
    return records


def unpack_state(records: RecordDict) -> State:
    """Return the state that ``pack_state`` was given, with arrays of its own.

    Raises
    ------
    ConfigError
        The records are not from ``pack_state``.
    """
    state: State = {}
    for name, record in records.items():
        kind, *path = name.split("/")
        values: dict[str, Any]
        if kind == _ARRAYS and isinstance(record, ArrayRecord):
            values = {key: array.numpy() for key, array in record.items()}
        elif kind == _NUMBERS and isinstance(record, MetricRecord):
            values = dict(record)
        else:
            raise ConfigError(
                f"the record {name!r} is no part of a state", hint="load what state_dict returned"
            )
        node = state
        for part in path:
            node = node.setdefault(part, {})
        node.update(values)
    return state


def same_layout(state: State, other: State) -> bool:
    """Return whether two states hold the same names, whatever arrays are in them.

    Examples
    --------
    >>> same_layout({"v": {"w": np.ones(2)}}, {"v": {}}), same_layout({"v": {}}, {"m": {}, "v": {}})
    (True, False)
    """

    def names(node: State) -> dict[str, Any]:
        inner = {k: v for k, v in node.items() if not isinstance(v, np.ndarray)}
        return {k: names(v) if isinstance(v, dict) else None for k, v in inner.items()}

    return names(state) == names(other)
