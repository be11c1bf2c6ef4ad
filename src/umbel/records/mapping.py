"""A dictionary that checks what is put into it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import Any, ClassVar, Self, TypeVar

from umbel.base import RecordError

V = TypeVar("V")


class MissingKey(RecordError, KeyError):
    """A record has no value under this key."""


class CheckedMapping(MutableMapping[str, V]):
    """A mapping from text to values of one kind, in order of insertion."""

    __slots__ = ("_items",)

    _items: dict[str, V]
    holds: ClassVar[str] = "value"
    """What an error text calls one of the values."""

    @abstractmethod
    def _admit(self, key: object, value: Any) -> V:
        """Return the value as it is kept, or raise RecordError."""

    def __getitem__(self, key: str) -> V:
        try:
            return self._items[key]
        except KeyError:
            raise missing_key(self.holds, key, self._items) from None

    def __setitem__(self, key: str, value: Any) -> None:
        self._items[key] = self._admit(key, value)

    def __delitem__(self, key: str) -> None:
        try:
            del self._items[key]
        except KeyError:
            raise missing_key(self.holds, key, self._items) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    # The mixins of MutableMapping would go through __getitem__ for each of these.

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def keys(self) -> KeysView[str]:
        return self._items.keys()

    def values(self) -> ValuesView[V]:
        return self._items.values()

    def items(self) -> ItemsView[str, V]:
        return self._items.items()

    def copy(self) -> Self:
        """Return a record of its own with the same values."""
        return self._holding(self._items.copy())

    __copy__ = copy

    @classmethod
    def _holding(cls, items: dict[str, V]) -> Self:
        """Return a record around a dictionary whose values were checked before."""
        record = object.__new__(cls)
        record._items = items
        return record

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CheckedMapping):
            return type(self) is type(other) and self._items == other._items
        return self._items == other if isinstance(other, dict) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # the values may change

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"


def missing_key(holds: str, key: object, present: Mapping[str, object]) -> MissingKey:
    """Return the error for a key that is not there; it names the keys that are."""
    names = ", ".join(repr(name) for name in list(present)[:10])
    more = f" and {len(present) - 10} more" if len(present) > 10 else ""
    hint = f"the keys are {names}{more}" if names else "it is empty"
    return MissingKey(f"there is no {holds} under {key!r}", hint=hint)


def check_key(key: object) -> str:
    """Return the key if it is text."""
    if isinstance(key, str):
        return key
    raise RecordError(f"a key is a string, got {key!r} of type {type(key).__name__}")
