"""Modules made from a table, and an import hook that serves them under the name of a package."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from umbel.base import UsageError
from umbel.flwr.missing import not_in_umbel

Names = Mapping[str, str]
"""Name of an object to ``"module:attribute"``, where it lies in Umbel."""


class ServedModule(ModuleType):
    """A module whose names are looked up in the table when they are first asked for."""

    def __init__(self, name: str, served_as: str, names: Names, deprecated: Names) -> None:
        super().__init__(name, f"The module {served_as}, over Umbel's objects.")
        self.__path__: list[str] = []  # what has submodules is a package
        self._served_as = served_as
        self._references = names
        self._deprecated = deprecated
        self.__all__ = sorted(names.keys() - deprecated.keys())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        reference = self._references.get(name)
        if reference is None:
            raise not_in_umbel(name, self._served_as)
        if name in self._deprecated:
            text = f"{self._served_as}.{name} is now called {self._deprecated[name]}"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        module, _, attribute = reference.partition(":")
        value = getattr(importlib.import_module(module), attribute)
        setattr(self, name, value)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._references})


class ServedPackage(MetaPathFinder):
    """A package of somebody else's whose names lead to Umbel's objects.

    Parameters
    ----------
    name : str
        What the package is called when it is installed: ``"flwr"``.
    home : str
        The package of Umbel's below which its modules can always be imported.
    version : str
        The version whose interface is served.
    modules : mapping
        The names of each module, by its path below the package; those of the package itself stand
        under ``""``.
    deprecated : mapping, optional
        Old names, and what to write instead.
    """

    def __init__(
        self,
        name: str,
        home: str,
        version: str,
        modules: Mapping[str, Names],
        deprecated: Names | None = None,
    ) -> None:
        self.name = name
        self._version = version
        self._own = modules.get("", {})
        self._deprecated = deprecated or {}
        self.modules = {
            path: ServedModule(f"{home}.{path}", f"{name}.{path}", names, self._deprecated)
            for path, names in sorted(modules.items())
            if path
        }
        for path, module in self.modules.items():
            sys.modules[module.__name__] = module
            parent, _, last = path.rpartition(".")
            # A name of the table wins: `server.server` is a module, `server.Server` is not.
            if parent and last not in modules[parent]:
                setattr(self.modules[parent], last, module)

    def check(self) -> None:
        """Raise ``UsageError`` when the package itself has been imported already."""
        loaded = sys.modules.get(self.name)
        if loaded is not None and not self._is_installed():
            raise UsageError(
                f"Flower's own {self.name} is loaded in this process already",
                hint=f"call umbel.flwr.install() before the first `import {self.name}`",
            )

    def install(self) -> None:
        """Serve the package under its name."""
        if self._is_installed():
            return
        root = ServedModule(self.name, self.name, self._own, self._deprecated)
        root.__dict__["__version__"] = self._version
        sys.modules[self.name] = root
        for path, module in self.modules.items():
            sys.modules[f"{self.name}.{path}"] = module
            if "." not in path:
                setattr(root, path, module)
                root.__all__.append(path)
        sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Undo ``install``."""
        if not self._is_installed():
            return
        del sys.modules[self.name]
        for path in self.modules:
            sys.modules.pop(f"{self.name}.{path}", None)
        sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse a module of the package that is not served; the hook stands before all others."""
        parent, _, name = fullname.rpartition(".")
        if fullname.startswith(f"{self.name}.") and not name.startswith("__"):
            raise not_in_umbel(name, parent)
        return None

    def _is_installed(self) -> bool:
        return isinstance(sys.modules.get(self.name), ServedModule)
