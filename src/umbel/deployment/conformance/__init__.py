"""Playing the server against a node, to see whether it keeps to the wire."""

from umbel.deployment.conformance.kit import CASES, play_cases
from umbel.deployment.conformance.objects import ObjectTable
from umbel.deployment.conformance.player import Case
from umbel.deployment.conformance.server import ScriptedServer, Session

__all__ = [
    "CASES",
    "Case",
    "ObjectTable",
    "ScriptedServer",
    "Session",
    "play_cases",
]
