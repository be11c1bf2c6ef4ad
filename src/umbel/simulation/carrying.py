"""Objects of scripts and notebooks as bytes, for the workers."""

from __future__ import annotations

import functools
import io
from collections import ChainMap
from collections.abc import Callable
from typing import Any, ClassVar

import cloudpickle


def carried(value: object) -> bytes:
    """Return what ``cloudpickle.loads`` makes the object of again, in another process.

    Functions under ``functools.cache`` are carried as other functions are, their caches empty.
    """
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Return the function under a cache of its own."""
    return functools.lru_cache(**parameters)(function)


def _reduced(function: Any) -> str | tuple[Any, ...]:
    if function.__module__ != "__main__" and "<locals>" not in function.__qualname__:
        return str(function.__qualname__)  # by its name, which workers can import
    return cached, (function.__wrapped__, function.cache_parameters())


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    # By itself it names such a function, and workers have none of that name in their `__main__`.
    dispatch_table: ClassVar = ChainMap(
        {functools._lru_cache_wrapper: _reduced}, cloudpickle.Pickler.dispatch_table
    )
