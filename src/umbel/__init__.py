"""Umbel: federated learning, simulated and deployed with the same app."""

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
