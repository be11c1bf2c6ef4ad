"""``python -m umbel.flwr script.py [args]``: run a script of Flower's on Umbel."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from umbel.flwr.served import install


def main() -> None:
    """Run the script that the command line names as Python itself would."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit("usage: python -m umbel.flwr SCRIPT.py [ARGUMENTS]")
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    install()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
