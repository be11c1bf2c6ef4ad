"""The command ``umbel``: make an app, run it, and look at what its runs left behind."""

from umbel.cli.commands import app, main

__all__ = ["app", "main"]
