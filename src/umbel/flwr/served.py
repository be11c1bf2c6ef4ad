"""Flower's modules, and what makes ``import flwr`` and ``import flwr_datasets`` mean them."""

from __future__ import annotations

from umbel.flwr.datasets.served import FLWR_DATASETS
from umbel.flwr.serving import ServedPackage
from umbel.flwr.table import DEPRECATED, MODULES

_FLWR = ServedPackage("flwr", "umbel.flwr", "1.42.0", MODULES, DEPRECATED)

app = _FLWR.modules["app"]
client = _FLWR.modules["client"]
clientapp = _FLWR.modules["clientapp"]
common = _FLWR.modules["common"]
server = _FLWR.modules["server"]
serverapp = _FLWR.modules["serverapp"]
simulation = _FLWR.modules["simulation"]


def install() -> None:
    """Make ``import flwr`` mean ``umbel.flwr`` in this process, whether Flower is there or not.

    ``import flwr_datasets`` then means ``umbel.flwr.datasets``.

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
    _FLWR.check()
    FLWR_DATASETS.check()
    _FLWR.install()
    FLWR_DATASETS.install()


def uninstall() -> None:
    """Undo ``install``."""
    _FLWR.uninstall()
    FLWR_DATASETS.uninstall()
