"""``python -m umbel.cli`` is the command ``umbel``."""

from umbel.cli.commands import main

main()
