"""Deployment: server and nodes on machines of their own, over gRPC and TLS."""

from umbel.deployment.addresses import (
    reached_at,
    remember_addresses,
    remembered_addresses,
    split_address,
)
from umbel.deployment.authority import Authority
from umbel.deployment.bundle import (
    Manifest,
    build_bundle,
    bundle_hash,
    create_signing_key,
    new_signing_key,
    public_key,
    read_manifest,
    read_signing_key,
    sign,
    unpack_bundle,
    verify,
)
from umbel.deployment.certificates import Principal, principal_of
from umbel.deployment.channel import Credentials
from umbel.deployment.connections import Connection, Connections
from umbel.deployment.identity import Identity, joining_key
from umbel.deployment.joining import join
from umbel.deployment.judging import Verdict, judge_client
from umbel.deployment.node import NodeEvent, NodeSettings, read_policy, serve_node, start_client
from umbel.deployment.server.blocking import start_server
from umbel.deployment.server.settings import ServerSettings
from umbel.deployment.serving import serve
from umbel.deployment.tokens import Grant, JoinToken, create_token, grant_of, granted_role
from umbel.deployment.user import UserClient

__all__ = [
    "Authority",
    "Connection",
    "Connections",
    "Credentials",
    "Grant",
    "Identity",
    "JoinToken",
    "Manifest",
    "NodeEvent",
    "NodeSettings",
    "Principal",
    "ServerSettings",
    "UserClient",
    "Verdict",
    "build_bundle",
    "bundle_hash",
    "create_signing_key",
    "create_token",
    "grant_of",
    "granted_role",
    "join",
    "joining_key",
    "judge_client",
    "new_signing_key",
    "principal_of",
    "public_key",
    "reached_at",
    "read_manifest",
    "read_policy",
    "read_signing_key",
    "remember_addresses",
    "remembered_addresses",
    "serve",
    "serve_node",
    "sign",
    "split_address",
    "start_client",
    "start_server",
    "unpack_bundle",
    "verify",
]
