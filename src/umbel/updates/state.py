"""The state of a transform as records, so that a checkpoint can hold it."""

from __future__ import annotations

from typing import Any

import numpy as np

from umbel.records import ArrayRecord, MetricRecord, RecordDict
from umbel.updates.transform import State

_NUMBERS = "numbers"


def pack_state(state: State) -> RecordDict:
    """Return a state as records: one ``ArrayRecord`` a dictionary of arrays, and all numbers.

    Examples
    --------
    >>> state = {"0": {"m": {"w": np.ones(2)}}, "1": {"step": 3}}
    >>> packed = pack_state(state)
    >>> sorted(packed), packed["numbers"]["1/step"]
    (['0/m', 'numbers'], 3)
    >>> unpack_state(packed)["1"]
    {'step': 3}
    """
    records = RecordDict()
    numbers: dict[str, int | float] = {}

    def visit(node: State, path: str) -> None:
        for name, value in node.items():
            where = f"{path}{name}"
            if not isinstance(value, dict):
                numbers[where] = value
            elif value and all(isinstance(v, np.ndarray) for v in value.values()):
                records[where] = ArrayRecord(value)
            else:
                visit(value, f"{where}/")

    visit(state, "")
    if numbers:
        records[_NUMBERS] = MetricRecord(numbers)
    return records


def unpack_state(records: RecordDict) -> State:
    """Return the state that ``pack_state`` was given."""
    state: State = {}
    for path, record in records.array_records.items():
        _put(state, path, record.views())
    for path, number in records.metric_records.get(_NUMBERS, MetricRecord()).items():
        _put(state, path, number)
    return state


def _put(state: State, path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for parent in parents:
        state = state.setdefault(parent, {})
    state[last] = value
