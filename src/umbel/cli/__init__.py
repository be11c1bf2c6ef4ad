"""The command ``umbel``: make an app, run it here or on a server, see what its runs left behind."""

from umbel.cli.commands import main
from umbel.cli.deploying import app

__all__ = ["app", "main"]
