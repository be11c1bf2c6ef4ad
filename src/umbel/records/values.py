"""What metric and config records may hold: Python scalars and lists of one kind of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from umbel.base import RecordError
from umbel.records.mapping import CheckedMapping, check_key

V = TypeVar("V")

INT_MIN = -(1 << 63)
INT_MAX = (1 << 64) - 1
"""Integers of other languages have 64 bits, signed or not."""

METRIC_KINDS = frozenset({int, float})
CONFIG_KINDS = frozenset({int, float, str, bytes, bool})
_SUBCLASSED: tuple[type[Any], ...] = (int, float, str, bytes)


class ValueRecord(CheckedMapping[V]):
    """A record of plain Python values: what metric and config records have in common."""

    __slots__ = ()
    kinds: ClassVar[frozenset[type]]

    def _fill(self, values: Mapping[str, Any] | None, keep_input: bool) -> None:
        self._items = items = {}
        if values:
            if type(values) is not dict and not isinstance(values, Mapping):
                raise RecordError(
                    f"a {type(self).__name__} cannot be made from {type(values).__name__}",
                    hint="give it a dict from names to values",
                )
            for key, value in values.items():
                # A float under a string needs no check, and most metrics are that.
                plain = type(value) is float and type(key) is str
                items[key] = value if plain else self._admit(key, value)
            if not keep_input:
                values.clear()  # type: ignore[attr-defined]

    def _admit(self, key: object, value: Any) -> V:
        admitted: V = admit_value(check_key(key), value, self.kinds)
        return admitted

    def copy(self) -> Self:
        """Return a record of its own with the same values; lists are copied."""
        items: Any = self._items
        copies: Any = {k: v.copy() if type(v) is list else v for k, v in items.items()}
        return self._holding(copies)

    __copy__ = copy


def admit_value(key: str, value: object, kinds: frozenset[type]) -> Any:
    """Return the value as plain Python: one of ``kinds``, or a new list of one of them.

    Raises
    ------
    RecordError
        If it is neither, or mixes kinds, or is an integer of more than 64 bits.
    """
    kind = type(value)
    if kind in kinds:
        if kind is int and not INT_MIN <= value <= INT_MAX:  # type: ignore[operator]
            raise _too_large(key)
        return value
    if isinstance(value, np.ndarray) and value.ndim <= 1 and value.dtype.kind not in "mM":
        # An array of longdouble gives NumPy scalars, which are then converted one by one.
        return admit_value(key, value.tolist(), kinds)
    if isinstance(value, list):
        return _admit_list(key, value, kinds)
    scalar = _plain(value, kinds)
    if scalar is None:
        raise _refused(key, value, kinds)
    return admit_value(key, scalar, kinds)


def _plain(value: object, kinds: frozenset[type]) -> Any:
    """Return a NumPy scalar or an instance of a subclass as its plain kind, or None."""
    if isinstance(value, np.generic):
        if value.dtype.kind in "mM":  # some dates would turn into bare integers
            return None
        converted = float(value) if isinstance(value, np.floating) else value.item()
        return converted if type(converted) in kinds else None
    if isinstance(value, bool):
        return None
    for kind in _SUBCLASSED:
        if kind in kinds and isinstance(value, kind):
            return kind(value)
    return None


def _admit_list(key: str, values: list[Any], kinds: frozenset[type]) -> list[Any]:
    found = set(map(type, values))
    if not found <= kinds:
        plain = [value if type(value) in kinds else _plain(value, kinds) for value in values]
        for before, after in zip(values, plain, strict=True):
            if after is None:
                raise _refused(key, before, kinds, inside="a list with ")
        values, found = plain, set(map(type, plain))
    if len(found) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in found))
        raise RecordError(
            f"a list holds values of one type, got {names}",
            hint="convert them, for example [float(v) for v in values]",
            key=key,
        )
    if found == {int} and not (min(values) >= INT_MIN and max(values) <= INT_MAX):
        raise _too_large(key)
    return values.copy()


def _too_large(key: str) -> RecordError:
    return RecordError(
        "an integer has at most 64 bits here", hint="send it as a string or as a float", key=key
    )


def _refused(key: str, value: object, kinds: frozenset[type], inside: str = "") -> RecordError:
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    return RecordError(
        f"{inside}{type(value).__name__} cannot be held here: "
        f"a value is one of {names}, or a list of one of them",
        hint=_advice(value, kinds),
        key=key,
    )


def _advice(value: object, kinds: frozenset[type]) -> str:
    if isinstance(value, dict):
        return "flatten it: {'optimizer': {'lr': 0.1}} becomes {'optimizer.lr': 0.1}"
    if value is None:
        return "leave the key out, and read it with record.get(key)"
    if isinstance(value, bool | np.bool_):
        return "use int(value)"
    if isinstance(value, tuple | set | frozenset | list):
        return "use a flat list: list(value)"
    if isinstance(value, np.ndarray):
        return "put arrays into an ArrayRecord"
    if hasattr(value, "item"):
        return "call .item() on it first"
    return "use a ConfigRecord for it" if type(value) in CONFIG_KINDS - kinds else "convert it"
