"""Deployment: server and nodes on machines of their own, over gRPC and TLS."""

from umbel.deployment.authority import Authority
from umbel.deployment.bundle import build_bundle, new_signing_key, public_key, sign
from umbel.deployment.channel import Credentials
from umbel.deployment.connections import Connection, Connections
from umbel.deployment.identity import Identity
from umbel.deployment.joining import join
from umbel.deployment.node import NodeEvent, NodeSettings, serve_node
from umbel.deployment.server import Server, ServerSettings, serve
from umbel.deployment.tokens import JoinToken, create_token, granted_role
from umbel.deployment.user import UserClient

__all__ = [
    "Authority",
    "Connection",
    "Connections",
    "Credentials",
    "Identity",
    "JoinToken",
    "NodeEvent",
    "NodeSettings",
    "Server",
    "ServerSettings",
    "UserClient",
    "build_bundle",
    "create_token",
    "granted_role",
    "join",
    "new_signing_key",
    "public_key",
    "serve",
    "serve_node",
    "sign",
]
