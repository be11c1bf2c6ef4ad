"""The process's environment variables: the only file that touches them."""

from __future__ import annotations

import os
from collections.abc import Mapping


def environment() -> dict[str, str]:
    """Return a copy of the environment variables."""
    return dict(os.environ)


def set_environment(values: Mapping[str, str]) -> None:
    """Set environment variables of this process and of those it starts from now on."""
    os.environ.update(values)
