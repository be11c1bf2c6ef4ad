"""What a key of a policy may be set to: each value is checked before anything relies on it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from umbel.base import ConfigError

Read = Callable[[Any], Any]
"""Returns a value as it is used, or raises ``ValueError`` with what it should be."""

_HASH = re.compile(r"(sha256:)?[0-9a-f]{64}")
_TYPE = re.compile(r"(train|evaluate|query)(\.(\*|[A-Za-z_][A-Za-z0-9_]*))?")
_SIGNER = re.compile(r"ed25519:[A-Za-z0-9+/]{43}=")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table.

    Attributes
    ----------
    read : callable
        Checks its value.
    default : object
        What holds if it is missing.
    required : bool
        Whether it may not be missing.
    """

    read: Read
    default: Any = None
    required: bool = False


def read_table(table: object, keys: Mapping[str, Key], where: str, file: str) -> dict[str, Any]:
    """Return the values of a table under the names of attributes, all checked.

    Parameters
    ----------
    table : object
        What the file has there.
    keys : mapping
        The keys that there are.
    where, file : str
        What errors name.

    Raises
    ------
    ConfigError
        It is no table, a key is unknown or missing, or a value is not possible.

    Examples
    --------
    >>> read_table({"per-run": 3}, {"per-run": Key(whole(1))}, "[messages]", "a.toml")
    {'per_run': 3}
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is not a table", hint=f"write {where}", file=file)
    refuse_unknown(table, keys, where, file)
    values = {}
    for name, key in keys.items():
        if name in table:
            try:
                value = key.read(table[name])
            except ValueError as error:
                raise ConfigError(
                    f"{where} {name} = {table[name]!r}", hint=f"it is {error}", key=name, file=file
                ) from None
        elif key.required:
            raise ConfigError(f"{where} does not say {name}", hint=f"add {name} = ...", file=file)
        else:
            value = key.default
        values[name.replace("-", "_")] = value
    return values


def refuse_unknown(table: Mapping[str, Any], known: Iterable[str], where: str, file: str) -> None:
    """Raise ``ConfigError`` for a key that does not exist: a typing error must not open a door."""
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=2, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{where} does not know {key!r}", hint=hint, key=key, file=file)


def text(value: Any) -> str:
    """Read text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text that is not empty")
    return value


def message_type(value: Any) -> str:
    """Read a type of messages, or a group of them."""
    if not isinstance(value, str) or not _TYPE.fullmatch(value):
        raise ValueError('one such as "train", "evaluate", "query.stats" or "query.*"')
    return value


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def whole(minimum: int) -> Read:
    """Return a reader of integers from ``minimum`` on."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"an integer, {minimum} or more")
        return value

    return read


def number(value: Any) -> float:
    """Read a number; NaN and infinity are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a finite number")
    return float(value)


def positive(value: Any) -> float:
    """Read a number above 0."""
    try:
        read = number(value)
    except ValueError:
        read = 0.0
    if read <= 0:
        raise ValueError("a finite number above 0")
    return read


def fraction(value: Any) -> float:
    """Read a number between 0 and 1, without both."""
    try:
        read = number(value)
    except ValueError:
        read = 0.0
    if not 0 < read < 1:
        raise ValueError("a number above 0 and below 1")
    return read


def one_of(*choices: str) -> Read:
    """Return a reader of one of a few words."""

    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(" or ".join(f'"{choice}"' for choice in choices))
        return str(value)

    return read


def several(item: Read, what: str) -> Read:
    """Return a reader of lists that are not empty and hold nothing twice."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError(f"a list of {what}, not empty")
        try:
            items = tuple(item(each) for each in value)
        except ValueError as error:
            raise ValueError(f"a list of {what}, each {error}") from None
        # True equals 1, and is another value all the same.
        if len({(type(each), each) for each in items}) < len(items):
            raise ValueError(f"a list of {what}, none of them twice")
        return items

    return read


def bundle_hash(value: Any) -> str:
    """Read the SHA-256 of a bundle."""
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError("64 hexadecimal digits, as umbel run --on prints them")
    return value.removeprefix("sha256:")


def signer(value: Any) -> str:
    """Read a public key."""
    if not isinstance(value, str) or not _SIGNER.fullmatch(value):
        raise ValueError("a public key: ed25519: and 44 characters, as umbel key create prints it")
    return value


def scalar(value: Any) -> bool | int | float | str:
    """Read a boolean, a finite number or text."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError("a boolean, a finite number or text")
