"""The content of a message: named records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Generic, Self, TypeVar

from umbel.base import RecordError
from umbel.records.arrayrecord import ArrayRecord
from umbel.records.configrecord import ConfigRecord
from umbel.records.mapping import CheckedMapping, check_key, missing_key
from umbel.records.metricrecord import MetricRecord

Record = ArrayRecord | MetricRecord | ConfigRecord
R = TypeVar("R", bound=Record)

_KINDS = frozenset({ArrayRecord, MetricRecord, ConfigRecord})


class RecordDict(CheckedMapping[Record]):
    """Named records of arrays, metrics and settings, in order.

    Parameters
    ----------
    records : mapping from str to ArrayRecord, MetricRecord or ConfigRecord, optional
        The records to hold; they are shared, not copied.

    Raises
    ------
    RecordError
        If a value is no record.

    Examples
    --------
    >>> content = RecordDict({"metrics": MetricRecord({"loss": 0.5})})
    >>> content.config_records["config"] = ConfigRecord({"lr": 0.1})
    >>> list(content), content["config"]["lr"]
    (['metrics', 'config'], 0.1)
    """

    __slots__ = ()
    holds = "record"

    def __init__(self, records: Mapping[str, Record] | None = None) -> None:
        if records is None:
            self._items = {}
            return
        if type(records) is not dict and not isinstance(records, Mapping):
            raise RecordError(
                f"a RecordDict cannot be made from {type(records).__name__}",
                hint='give it a dict from names to records: RecordDict({"arrays": record})',
            )
        self._items = dict(records)
        for key, record in self._items.items():
            if type(record) not in _KINDS or type(key) is not str:
                self._admit(key, record)

    def _admit(self, key: object, value: Any) -> Record:
        check_key(key)
        if isinstance(value, Record):
            return value
        raise RecordError(
            f"a RecordDict holds records, got {type(value).__name__}",
            hint="wrap it: ArrayRecord for arrays, MetricRecord for numbers to report, "
            "ConfigRecord for settings",
            key=key,
        )

    @property
    def array_records(self) -> RecordsOfKind[ArrayRecord]:
        """The records of arrays, as a live view: what is written to it is written here."""
        return RecordsOfKind(self._items, ArrayRecord)

    @property
    def metric_records(self) -> RecordsOfKind[MetricRecord]:
        """The records of metrics, as a live view: what is written to it is written here."""
        return RecordsOfKind(self._items, MetricRecord)

    @property
    def config_records(self) -> RecordsOfKind[ConfigRecord]:
        """The records of settings, as a live view: what is written to it is written here."""
        return RecordsOfKind(self._items, ConfigRecord)

    def copy(self) -> Self:
        """Return a RecordDict with a copy of each record; arrays share their buffers."""
        return self._holding({key: record.copy() for key, record in self._items.items()})

    __copy__ = copy


class RecordsOfKind(MutableMapping[str, R], Generic[R]):
    """The records of one kind in a RecordDict, as a live view."""

    __slots__ = ("_kind", "_records")

    def __init__(self, records: dict[str, Record], kind: type[R]) -> None:
        self._records = records
        self._kind: type[R] = kind

    def __getitem__(self, key: str) -> R:
        record = self._records.get(key)
        if isinstance(record, self._kind):
            return record
        raise missing_key(self._kind.__name__, key, dict(self))

    def __setitem__(self, key: str, value: R) -> None:
        if not isinstance(value, self._kind):
            raise RecordError(
                f"only a {self._kind.__name__} goes here, got {type(value).__name__}", key=key
            )
        self._records[check_key(key)] = value

    def __delitem__(self, key: str) -> None:
        self[key]  # only a record of this kind is deleted
        del self._records[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key, record in self._records.items() if isinstance(record, self._kind))

    def __len__(self) -> int:
        return sum(isinstance(record, self._kind) for record in self._records.values())

    def __repr__(self) -> str:
        return repr(dict(self))
