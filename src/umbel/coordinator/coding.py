"""Durable events, and the durable state, as JSON.

A dataclass is an object without the fields that have their default, a tuple is an array, bytes are
base64. What is read is checked against the annotations, so that a journal that was damaged, or
written by a later release, is noticed at the entry that is wrong.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from umbel.base import JournalCorrupt
from umbel.coordinator.events import DurableEvent
from umbel.coordinator.state import Node, Run, Sent, State, Token

_KINDS: dict[str, type] = {kind.__name__: kind for kind in get_args(DurableEvent)}
_FORMAT = 1


def event_to_json(event: DurableEvent) -> bytes:
    """Return an event as one line of JSON, without a line end."""
    return _dump({"event": type(event).__name__, **_plain(event)})


def event_from_json(data: bytes) -> DurableEvent:
    """Return the event again.

    Raises
    ------
    JournalCorrupt
        If the bytes are not such JSON, or the event is not known to this release.
    """
    value = _load(data)
    kind = _KINDS.get(str(value.pop("event", None)))
    if kind is None:
        raise JournalCorrupt(
            "an entry of the journal is no event that this release knows",
            hint="if a later release of Umbel wrote it, start that one",
            entry=data[:100],
        )
    return cast(DurableEvent, _read(kind, value, data))


def state_to_json(state: State) -> bytes:
    """Return the durable part of a state, for `Journal.snapshot`."""
    return _dump(
        {
            "format": _FORMAT,
            "nodes": [_plain(node) for node in state.nodes.values()],
            "tokens": {key: _plain(token) for key, token in state.tokens.items()},
            "runs": [_plain(run) for run in state.runs.values()],
            "messages": [_plain(sent) for sent in state.messages.values()],
            "members": {run: sorted(nodes) for run, nodes in state.members.items()},
            "removed": sorted(state.removed),
        }
    )


def parts_from_json(data: bytes) -> dict[str, Any]:
    """Return what `state_to_json` wrote, as lists and dicts of the state's own classes.

    Raises
    ------
    JournalCorrupt
        If it is not such JSON.
    """
    value = _load(data)
    if value.pop("format", None) != _FORMAT:
        raise JournalCorrupt("the snapshot has a format that this release does not know")
    kinds = {
        "nodes": tuple[Node, ...],
        "tokens": Mapping[str, Token],
        "runs": tuple[Run, ...],
        "messages": tuple[Sent, ...],
        "members": Mapping[str, tuple[int, ...]],
        "removed": tuple[str, ...],
    }
    value.setdefault("removed", [])  # earlier releases removed nothing
    if value.keys() != kinds.keys():
        raise JournalCorrupt(f"the snapshot holds {sorted(value)}, not {sorted(kinds)}")
    return {name: _read(kind, value[name], data) for name, kind in kinds.items()}


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _load(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise JournalCorrupt(f"not JSON: {error}", entry=data[:100]) from error
    if not isinstance(value, dict):
        raise JournalCorrupt("not a JSON object", entry=data[:100])
    return value


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return value
    if kind is bytes:
        return b64encode(value).decode()
    if kind is tuple:
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    out = {}
    for name, default in _defaults(cast(Hashable, kind)):
        item = getattr(value, name)
        if item != default:
            out[name] = _plain(item)
    return out


@cache
def _defaults(kind: Any) -> tuple[tuple[str, object], ...]:
    return tuple((f.name, f.default) for f in fields(kind))


def _read(kind: Any, value: object, data: bytes) -> Any:
    try:
        return _reader(kind)(value)
    except (KeyError, TypeError, ValueError) as error:
        raise JournalCorrupt(
            f"an entry of the journal cannot be read: {error}", entry=data[:100]
        ) from error


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return the function that turns plain JSON into a value of this annotation."""
    if is_dataclass(kind):
        return _dataclass_reader(cast(type, kind))
    if kind is bytes:
        return lambda value: b64decode(value, validate=True)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _checked(lambda value: value in arguments, kind)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda value: tuple([item(v) for v in _a(list, value)])
    if origin is Mapping:
        item = _reader(arguments[1])
        return lambda value: {key: item(v) for key, v in _a(dict, value).items()}
    if origin is UnionType:
        (some,) = (_reader(a) for a in arguments if a is not NoneType)
        return lambda value: None if value is None else some(value)
    if kind is float:
        return lambda value: float(value) if type(value) is int else _a(float, value)
    return lambda value: _a(kind, value)


def _dataclass_reader(kind: type) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    readers = {f.name: _reader(hints[f.name]) for f in fields(kind)}

    def read(value: Any) -> Any:
        return kind(**{name: readers[name](v) for name, v in _a(dict, value).items()})

    return read


def _checked(test: Callable[[Any], bool], kind: Any) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not test(value):
            raise ValueError(f"{value!r} is not {kind}")
        return value

    return read


def _a(kind: Any, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not {kind.__name__}")
    return value
