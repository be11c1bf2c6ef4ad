"""``start_client``: a node in a script of one's own."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from umbel.base import ConfigError, Scalar, Unreachable, UsageError
from umbel.clientapp import Client, ClientApp, ClientFn, NumPyClient
from umbel.deployment.channel import Credentials
from umbel.deployment.loopthread import LoopThread
from umbel.deployment.node.agent import run_node
from umbel.deployment.node.settings import NodeEvent, NodeSettings, OnEvent, read_policy
from umbel.records import DEFAULT_CODEC


def start_client(
    server_address: str = "127.0.0.1:9200",
    *,
    client: Client | NumPyClient | None = None,
    client_fn: ClientFn | None = None,
    client_app: ClientApp | None = None,
    root_certificates: bytes | Path | str | None = None,
    insecure: bool | None = None,
    node_config: Mapping[str, Scalar] | None = None,
    name: str | None = None,
    data_dir: Path | str | None = None,
    max_wait_s: float | None = 300.0,
    on_event: OnEvent | None = None,
    policy: Path | str | None = None,
    codec: str = DEFAULT_CODEC,
) -> None:
    """Be a client of a server until its run is over.

    The client answers in this process, one message at a time, in a thread. Only messages travel:
    the code and the data are here.

    Parameters
    ----------
    server_address : str
        The server, ``"host:port"``.
    client : Client or NumPyClient
        What answers. Give this, or one of the two that follow.
    client_fn : callable
        ``client_fn(context)`` returns what answers.
    client_app : ClientApp
        The whole app.
    root_certificates : bytes or path, optional
        The authority that signed the server's certificate, as PEM. Without, and with
        ``insecure=False``, it is one of those that this machine trusts.
    insecure : bool, optional
        Whether to connect without TLS; by default exactly when no ``root_certificates`` are given.
    node_config : mapping, optional
        ``context.node_config``. ``"partition-id"`` is the node's id unless it is set.
    name : str, optional
        What the node is called; the name of the machine by default.
    data_dir : path, optional
        Where the node keeps who it is, what it computed and what its runs left; by default a
        folder that goes when the call returns.
    max_wait_s : float or None
        How many seconds in a row to try to reach the server; ``None`` is for ever.
    on_event : callable, optional
        Called with every :class:`umbel.deployment.NodeEvent`, in another thread.
    policy : path, optional
        The file of a policy: what may come in and go out. It needs a ``data_dir`` to remember in
        what was spent. The client shares the process, so that its code must be trusted.
    codec : str
        The format in which contents travel; see :func:`umbel.records.codec_names`.

    Raises
    ------
    UsageError
        Not exactly one of ``client``, ``client_fn`` and ``client_app`` is given.
    ConfigError
        The settings contradict each other, or the data folder cannot be used.
    Unreachable
        The server could not be reached for ``max_wait_s`` seconds.

    Notes
    -----
    ``docs/deploying.md`` has a pair of scripts.
    """
    if policy is not None and data_dir is None:
        raise ConfigError(
            "a policy without a data_dir would forget what was spent", hint="give a data_dir"
        )
    app = _app(client, client_fn, client_app)
    credentials = _credentials(root_certificates, insecure)
    with ExitStack() as stack:
        if data_dir is None:
            data_dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="umbel-node-"))
        settings = NodeSettings(
            server_address,
            Path(data_dir),
            client_app=app,
            node_config=node_config or {},
            credentials=credentials,
            name=name or socket.gethostname(),
            policy=None if policy is None else read_policy(policy),
            codecs=(codec,),
        )
        loop = stack.enter_context(LoopThread())
        loop.call(_until_over(settings, max_wait_s, on_event))


async def _until_over(
    settings: NodeSettings, max_wait_s: float | None, on_event: OnEvent | None
) -> None:
    """Be a node until a run that it took part in is over, or the server is away for too long."""
    leave = asyncio.Event()
    patience = _Patience(max_wait_s, leave)
    joined = set()

    def take(event: NodeEvent) -> None:
        if event.kind == "connected":
            patience.end()
        elif event.kind in ("connecting", "disconnected"):
            patience.begin(event.text)
        elif event.kind == "accepted":
            joined.add(event.run_id)
        elif event.kind == "dismissed" or (event.kind == "run_over" and event.run_id in joined):
            leave.set()
        if on_event is not None:
            on_event(event)

    try:
        await run_node(settings, take, leave)
    finally:
        patience.end()
    if patience.lost:
        raise Unreachable(
            f"there was no server for {max_wait_s:g} s: {patience.reason}",
            hint="start the server, or wait longer with max_wait_s",
            address=settings.address,
        )


class _Patience:
    """Ends the waiting for a server that is away for too long."""

    def __init__(self, limit_s: float | None, leave: asyncio.Event) -> None:
        self._limit_s = limit_s
        self._leave = leave
        self._alarm: asyncio.TimerHandle | None = None
        self.lost = False
        self.reason = ""

    def begin(self, reason: str) -> None:
        """Wait from now on, unless that is so already."""
        self.reason = reason
        if self._alarm is None and self._limit_s is not None:
            self._alarm = asyncio.get_running_loop().call_later(self._limit_s, self._give_up)

    def end(self) -> None:
        """Stop waiting: the server is there."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _give_up(self) -> None:
        self.lost = True
        self._leave.set()


def _app(
    client: Client | NumPyClient | None, client_fn: ClientFn | None, client_app: ClientApp | None
) -> ClientApp:
    given = [what for what in (client, client_fn, client_app) if what is not None]
    if len(given) != 1:
        raise UsageError(
            f"{len(given)} of client, client_fn and client_app are given",
            hint="give exactly one: start_client(address, client=...)",
        )
    if client_app is not None:
        return client_app
    return ClientApp(client_fn or _always(client))


def _always(client: Client | NumPyClient | None) -> Callable[..., Client | NumPyClient]:
    if not isinstance(client, Client | NumPyClient):
        raise UsageError(
            f"client is a {type(client).__name__}",
            hint="give a Client or a NumPyClient; a function goes to client_fn",
        )
    return lambda context: client


def _credentials(
    root_certificates: bytes | Path | str | None, insecure: bool | None
) -> Credentials | None:
    if insecure and root_certificates is not None:
        raise ConfigError(
            "root_certificates are of no use without TLS", hint="leave out one of the two"
        )
    if insecure or (insecure is None and root_certificates is None):
        return None
    if isinstance(root_certificates, Path | str):
        root_certificates = Path(root_certificates).read_bytes()
    return Credentials(root_certificates or b"")
