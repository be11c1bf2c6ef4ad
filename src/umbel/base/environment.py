"""The process's environment variables: the only file that touches them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def environment() -> dict[str, str]:
    """Return a copy of the environment variables."""
    return dict(os.environ)


def environment_of_children() -> dict[str, str]:
    """Return a copy with which a Python process that is started imports the same Umbel."""
    own = environment()
    path = os.pathsep.join([str(Path(__file__).parents[2]), own.get("PYTHONPATH", "")])
    return {**own, "PYTHONPATH": path.rstrip(os.pathsep)}


def set_environment(values: Mapping[str, str]) -> None:
    """Set environment variables of this process and of those it starts from now on."""
    os.environ.update(values)


def config_folder() -> Path:
    """Return the folder of the user's own settings: ``~/.config/umbel`` unless XDG says otherwise.

    ``XDG_CONFIG_HOME`` counts when it is an absolute path, as its specification asks.
    """
    named = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".config") / "umbel"
