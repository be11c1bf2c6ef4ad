"""Nested settings and flat ones."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from umbel.base import ConfigError


def flatten_dict(raw_dict: Mapping[str, Any] | None, parent_key: str = "") -> dict[str, Any]:
    """Return a nested dictionary as a flat one, with dots between the names.

    Examples
    --------
    >>> flatten_dict({"train": {"lr": 0.1}})
    {'train.lr': 0.1}
    """
    flat: dict[str, Any] = {}
    for key, value in (raw_dict or {}).items():
        name = f"{parent_key}.{key}" if parent_key else key
        flat |= flatten_dict(value, name) if isinstance(value, Mapping) else {name: value}
    return flat


def unflatten_dict(flat_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dictionary that a flat one stands for.

    Examples
    --------
    >>> unflatten_dict({"train.lr": 0.1, "rounds": 3})
    {'train': {'lr': 0.1}, 'rounds': 3}
    """
    nested: dict[str, Any] = {}
    for key, value in flat_dict.items():
        *parents, last = key.split(".")
        table = nested
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = value
    return nested


def fuse_dicts(
    main_dict: Mapping[str, Any], override_dict: Mapping[str, Any], check_keys: bool = True
) -> dict[str, Any]:
    """Return the flattened first dictionary with the values of the second.

    Raises
    ------
    ConfigError
        The second has a key that the first has not, and keys are checked.
    """
    main, override = flatten_dict(main_dict), flatten_dict(override_dict)
    unknown = sorted(override.keys() - main.keys())
    if check_keys and unknown:
        raise ConfigError(f"unknown settings {unknown}", hint="declare them in the app's settings")
    return main | override


def parse_config_args(config: Sequence[str] | None) -> dict[str, Any]:
    """Return ``["lr=0.1 rounds=3", ...]`` as settings, each value read as TOML.

    Raises
    ------
    ConfigError
        A text is not of that form.
    """
    settings: dict[str, Any] = {}
    for text in config or ():
        for pair in text.split():
            try:
                settings |= flatten_dict(tomllib.loads(pair))
            except tomllib.TOMLDecodeError as error:
                raise ConfigError(f"cannot read {pair!r}", hint="write key=value") from error
    return settings
