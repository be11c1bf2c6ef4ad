"""Settings: named values that tell a client what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.records.values import CONFIG_KINDS, ValueRecord

ConfigScalar = bool | int | float | str | bytes
ConfigRecordValues = ConfigScalar | list[bool] | list[int] | list[float] | list[str] | list[bytes]


class ConfigRecord(ValueRecord[ConfigRecordValues]):
    """Named settings: each an int, float, bool, str, bytes, or a list of one of them.

    Parameters
    ----------
    config_dict : mapping from str to value or list of values, optional
        NumPy scalars and arrays of at most one dimension are turned into Python values.
    keep_input : bool
        False empties the mapping given.

    Raises
    ------
    RecordError
        If a value is anything else, such as None or a nested dictionary.

    Examples
    --------
    >>> config = ConfigRecord({"lr": 0.1, "layers": ["fc1", "fc2"]})
    >>> config["server-round"] = 1
    >>> config["server-round"]
    1
    """

    __slots__ = ()
    kinds = CONFIG_KINDS
    holds = "setting"

    def __init__(
        self, config_dict: Mapping[str, Any] | None = None, keep_input: bool = True
    ) -> None:
        self._fill(config_dict, keep_input)
