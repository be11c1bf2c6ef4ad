"""Umbel: federated learning, simulated and deployed with the same app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from umbel.base import MissingDependency as _MissingDependency
from umbel.base import UmbelError
from umbel.clientapp import Client, ClientApp, NumPyClient
from umbel.records import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    Metadata,
    MetricRecord,
    RecordDict,
)
from umbel.serverapp import Grid, Result, ServerApp, Strategy
from umbel.simulation import run_simulation

if TYPE_CHECKING:
    from umbel.deployment import start_client as start_client
    from umbel.deployment import start_server as start_server

__version__ = "0.1.0"

__all__ = [
    "Array",
    "ArrayRecord",
    "Client",
    "ClientApp",
    "ConfigRecord",
    "Context",
    "Error",
    "Grid",
    "Message",
    "MessageType",
    "Metadata",
    "MetricRecord",
    "NumPyClient",
    "RecordDict",
    "Result",
    "ServerApp",
    "Strategy",
    "UmbelError",
    "__version__",
    "run_simulation",
]


def __getattr__(name: str) -> Any:
    """Import on first use what needs gRPC; simulations do without."""
    if name not in ("start_client", "start_server"):
        raise AttributeError(f"module 'umbel' has no attribute {name!r}")
    try:
        from umbel import deployment
    except ModuleNotFoundError as error:
        raise _MissingDependency(
            f"umbel.{name} needs {error.name}", hint='pip install "umbel[deploy]"'
        ) from error
    return getattr(deployment, name)
