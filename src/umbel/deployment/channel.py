"""A connection to the server: its bounds, its keep-alive, its credentials."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import grpc.aio

WIRE_MESSAGE_MAX_BYTES = 8 * 1024 * 1024
"""The largest single message of the wire; bodies of messages travel in chunks and have no bound."""

KEPT_MEMORY_BYTES = 16 * 1024 * 1024
"""How much freed memory a server or a node keeps for the buffers of the next chunks."""

_KEEPALIVE_MS = 30_000
_KEEPALIVE_TIMEOUT_MS = 10_000
_PENDING_MAX = 100_000
_PENDING_S = 600

Option = tuple[str, int | str]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one side shows and whom it believes, each as PEM.

    Attributes
    ----------
    authority : bytes
        The certificate of the authority that must have signed the other side's; empty for those
        that this machine trusts.
    key, certificate : bytes
        One's own; empty for a side that shows none.
    """

    authority: bytes
    key: bytes = b""
    certificate: bytes = b""

    def __repr__(self) -> str:
        return "Credentials(...)"  # a key belongs into no log


def server_options() -> list[Option]:
    """Return the options of a server: bounds, and pings that find peers which went silently."""
    return [
        *_bounds(),
        ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_TIMEOUT_MS),
        # All nodes may ask for the model at once; gRPC drops calls beyond a thousand otherwise,
        # and those that have waited for half a minute.
        ("grpc.server.max_pending_requests", _PENDING_MAX),
        ("grpc.server.max_pending_requests_hard_limit", _PENDING_MAX),
        ("grpc.server_max_unrequested_time_in_server", _PENDING_S),
        ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a rival
    ]


def open_channel(
    address: str, credentials: Credentials | None = None, *, server_name: str | None = None
) -> grpc.aio.Channel:
    """Return a channel to the server; it connects when it is first used.

    Parameters
    ----------
    address : str
        ``"host:port"``, or ``"unix:/path"``.
    credentials : Credentials, optional
        For TLS. Without, nothing is encrypted.
    server_name : str, optional
        The name that the server's certificate must hold, if it is not the host's.
    """
    options = [*_bounds(), ("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    return grpc.aio.secure_channel(address, _for_client(credentials), options=options)


def open_blocking_channel(address: str, credentials: Credentials | None = None) -> grpc.Channel:
    """Return a channel for code without asyncio; it connects when it is first used."""
    if credentials is None:
        return grpc.insecure_channel(address, options=_bounds())
    return grpc.secure_channel(address, _for_client(credentials), options=_bounds())


def _for_client(credentials: Credentials) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        credentials.authority or None, credentials.key or None, credentials.certificate or None
    )


def _bounds() -> list[Option]:
    return [
        ("grpc.max_receive_message_length", WIRE_MESSAGE_MAX_BYTES),
        ("grpc.max_send_message_length", WIRE_MESSAGE_MAX_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),
    ]
