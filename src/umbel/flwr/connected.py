"""Servers and clients in scripts of their own, called as Flower's older ones are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from umbel import deployment
from umbel.base import UsageError
from umbel.flwr.client_app import ClientApp
from umbel.flwr.history import History
from umbel.flwr.managers import ClientManager
from umbel.flwr.missing import NotInUmbel
from umbel.flwr.old_server import Server, ServerConfig
from umbel.flwr.old_strategy import Strategy
from umbel.flwr.server_app import ServerApp


def start_server(
    *,
    server_address: str = "[::]:8080",
    server: Server | None = None,
    config: ServerConfig | None = None,
    strategy: Strategy | None = None,
    client_manager: ClientManager | None = None,
    certificates: tuple[bytes, bytes, bytes] | None = None,
    **unused: Any,
) -> History:
    """Serve the clients that connect, for all rounds, and return their ``History``.

    Parameters
    ----------
    server_address : str
        Where to listen.
    server, config, strategy, client_manager : optional
        The components of the server.
    certificates : tuple of bytes, optional
        The certificate of the authority, the server's own, and its key, each as PEM.
    **unused
        ``grpc_max_message_length``: nothing bounds a model.
    """
    _check_unused(unused, {"grpc_max_message_length"})
    app = ServerApp(server, config or ServerConfig(), strategy, client_manager)
    history: History = deployment.start_server(
        server_address, server_app=app, certificates=certificates
    )
    return history


def start_client(
    *,
    server_address: str,
    client_fn: Callable[..., Any] | None = None,
    client: Any = None,
    root_certificates: bytes | str | None = None,
    insecure: bool | None = None,
    max_wait_time: float | None = None,
    authentication_keys: Any = None,
    **unused: Any,
) -> None:
    """Be a client of a server until its rounds are over.

    Parameters
    ----------
    server_address : str
        The server.
    client_fn : callable
        ``client_fn(context)`` or ``client_fn(cid)``; give this or ``client``.
    client : Client or NumPyClient
        The client itself.
    root_certificates : bytes or str, optional
        The authority that signed the server's certificate, or the path of its file.
    insecure : bool, optional
        Whether to connect without TLS; by default exactly when no ``root_certificates`` are given.
    max_wait_time : float, optional
        How many seconds in a row to try to reach the server; for ever by default.
    **unused
        ``grpc_max_message_length``, ``transport`` and ``max_retries``: there is one transport, no
        bound for a model, and ``max_wait_time`` alone ends the trying.

    Raises
    ------
    NotInUmbel
        ``authentication_keys`` are given.
    UsageError
        Not exactly one of ``client_fn`` and ``client`` is given.
    """
    _check_unused(unused, {"grpc_max_message_length", "max_retries", "transport"})
    if authentication_keys is not None:
        raise NotInUmbel(
            "Umbel's clients do not prove who they are with authentication_keys",
            hint="leave them out, or use `umbel node`, which shows a certificate",
        )
    if (client_fn is None) == (client is None):
        raise UsageError(
            "a client is either client or client_fn", hint="give exactly one of the two"
        )
    deployment.start_client(
        server_address,
        client_app=ClientApp(client_fn or (lambda context: client)),
        root_certificates=root_certificates,
        insecure=insecure,
        max_wait_s=max_wait_time,
    )


def start_numpy_client(*, server_address: str, client: Any, **options: Any) -> None:
    """Be a client that works on lists of arrays; ``options`` are those of ``start_client``."""
    start_client(server_address=server_address, client=client, **options)


def _check_unused(unused: dict[str, Any], known: set[str]) -> None:
    if unknown := sorted(unused.keys() - known):
        raise TypeError(f"unexpected arguments: {', '.join(unknown)}")
