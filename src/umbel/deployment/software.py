"""What this side of a connection says that it is."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def software() -> str:
    """Return what this side is: ``"umbel/0.1.0 python/3.11.9"``."""
    try:
        own = version("umbel")
    except PackageNotFoundError:
        own = "unknown"  # run from a checkout
    return f"umbel/{own} python/{platform.python_version()}"
