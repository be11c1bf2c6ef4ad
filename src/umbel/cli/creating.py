"""``umbel new``: a small, complete app to start from. Nothing is fetched from anywhere."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path

from umbel.base import ConfigError

# What stands for the app's own names in the templates.
_PACKAGE, _NAME = "app_package", "app-name"

# What the app of a template imports, and the extra of Umbel that installs it.
_LIBRARIES = {
    "numpy": {"sklearn": "sklearn"},
    "sklearn": {"sklearn": "sklearn"},
    "pytorch": {"torch": "torch", "sklearn": "sklearn"},
    "jax": {"jax": "jax", "sklearn": "sklearn"},
}


def create_app(folder: Path, template: str) -> None:
    """Write the template's files into ``folder`` and print what to do next.

    Raises
    ------
    ConfigError
        If the folder holds anything, or its name cannot name a Python package.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is there and is not an empty folder",
            hint="name a folder that does not exist yet",
        )
    name = folder.resolve().name
    package = re.sub(r"\W+", "_", name).lower()
    if not package.isidentifier() or keyword.iskeyword(package):
        raise ConfigError(
            f"the app is named after its folder, and {name!r} cannot name a Python package",
            hint="begin the name with a letter: umbel new digits",
        )
    spec = find_spec(package)
    # Folders on the path count as packages without an origin; they hide nothing.
    if spec is not None and spec.origin is not None:
        raise ConfigError(
            f"the app is named after its folder, and would hide the module {package!r}",
            hint=f"take another name: umbel new {name}-app",
            module=spec.origin,
        )
    _copy(files("umbel.cli") / "templates" / template, folder, package, name)
    print(f"Made {folder}, an app that learns with {template}. Next:\n")
    missing = [extra for module, extra in _LIBRARIES[template].items() if find_spec(module) is None]
    if missing:
        print(f'  pip install "umbel[{",".join(missing)}]"')
    print(f"  umbel run {folder}")
    print("  umbel show latest\n")
    print(f"Start reading in {folder / package / 'client_app.py'}.")


def _copy(source: Traversable, target: Path, package: str, name: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for item in source.iterdir():
        destination = target / item.name.replace(_PACKAGE, package)
        if item.is_dir():
            if item.name != "__pycache__":
                _copy(item, destination, package, name)
        else:
            text = item.read_text(encoding="utf-8")
            text = text.replace(_PACKAGE, package).replace(_NAME, name)
            destination.write_text(text, encoding="utf-8")
