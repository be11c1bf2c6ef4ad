"""Playing the server against a node, to see whether it keeps to the wire."""

from umbel.deployment.conformance.objects import ObjectTable
from umbel.deployment.conformance.server import ScriptedServer, Session

__all__ = ["ObjectTable", "ScriptedServer", "Session"]
