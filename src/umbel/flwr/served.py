"""Flower's modules, made from the table, and the import hook that serves them as ``flwr``."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from umbel.base import UsageError
from umbel.flwr.missing import not_in_umbel
from umbel.flwr.table import DEPRECATED, MODULES

_HERE = "umbel.flwr"
_FLOWER = "flwr"
_VERSION = "1.42.0"
"""The version of Flower whose interface is served."""


class ServedModule(ModuleType):
    """A module whose names are looked up in the table when they are first asked for."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{_HERE}.{path}", f"Flower's module flwr.{path}, over Umbel's objects.")
        self.__path__: list[str] = []  # what has submodules is a package
        self._flower_name = f"{_FLOWER}.{path}"
        self._references = MODULES[path]
        self.__all__ = sorted(self._references.keys() - DEPRECATED.keys())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        reference = self._references.get(name)
        if reference is None:
            raise not_in_umbel(name, self._flower_name)
        if name in DEPRECATED:
            text = f"{self._flower_name}.{name} is now called {DEPRECATED[name]}"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        module, _, attribute = reference.partition(":")
        value = getattr(importlib.import_module(module), attribute)
        setattr(self, name, value)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._references})


def _serve() -> dict[str, ServedModule]:
    """Make all modules, name them in ``sys.modules``, and hang each below its parent."""
    made = {path: ServedModule(path) for path in sorted(MODULES)}
    for path, module in made.items():
        sys.modules[module.__name__] = module
        parent, _, name = path.rpartition(".")
        # A name of the table wins: `server.server` is a module, `server.Server` is not.
        if parent and name not in MODULES[parent]:
            setattr(made[parent], name, module)
    return made


_SERVED = _serve()

app = _SERVED["app"]
client = _SERVED["client"]
clientapp = _SERVED["clientapp"]
common = _SERVED["common"]
server = _SERVED["server"]
serverapp = _SERVED["serverapp"]
simulation = _SERVED["simulation"]


class _Finder(MetaPathFinder):
    """Refuses what begins with ``flwr`` and is not served; it stands before all others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _FLOWER or fullname.startswith(f"{_FLOWER}."):
            parent, _, name = fullname.rpartition(".")
            if not parent or name.startswith("__"):
                return None
            raise not_in_umbel(name, parent)
        return None


class _Root(ModuleType):
    """The module ``flwr`` itself."""

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {_FLOWER!r} has no attribute {name!r}")
        raise not_in_umbel(name, _FLOWER)


_FINDER = _Finder()


def install() -> None:
    """Make ``import flwr`` mean ``umbel.flwr`` in this process, whether Flower is there or not.

    Raises
    ------
    UsageError
        Flower itself has been imported already.

    Examples
    --------
    >>> install()
    >>> import flwr.app, umbel
    >>> flwr.app.Message is umbel.Message
    True
    >>> uninstall()
    """
    loaded = sys.modules.get(_FLOWER)
    if isinstance(loaded, _Root):
        return
    if loaded is not None:
        raise UsageError(
            "Flower itself is loaded in this process already",
            hint="call umbel.flwr.install() before the first `import flwr`",
        )
    root = _Root(_FLOWER, "Flower's names over Umbel's objects.")
    vars(root).update(__path__=[], __version__=_VERSION, __all__=[])
    sys.modules[_FLOWER] = root
    for path, module in _SERVED.items():
        sys.modules[f"{_FLOWER}.{path}"] = module
        if "." not in path:
            setattr(root, path, module)
            root.__all__.append(path)
    sys.meta_path.insert(0, _FINDER)


def uninstall() -> None:
    """Undo ``install``."""
    if not isinstance(sys.modules.get(_FLOWER), _Root):
        return
    del sys.modules[_FLOWER]
    for path in _SERVED:
        sys.modules.pop(f"{_FLOWER}.{path}", None)
    sys.meta_path.remove(_FINDER)
