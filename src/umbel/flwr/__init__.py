"""Flower's names over Umbel's objects: ``import umbel.flwr as fl``."""

from umbel.flwr import datasets
from umbel.flwr.missing import NotInUmbel
from umbel.flwr.served import (
    app,
    client,
    clientapp,
    common,
    install,
    server,
    serverapp,
    simulation,
    uninstall,
)

__all__ = [
    "NotInUmbel",
    "app",
    "client",
    "clientapp",
    "common",
    "datasets",
    "install",
    "server",
    "serverapp",
    "simulation",
    "uninstall",
]
