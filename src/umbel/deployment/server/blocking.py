"""``start_server``: a server in a script of one's own, for one run."""

from __future__ import annotations

import inspect
import ipaddress
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umbel.base import SYSTEM_CLOCK, ConfigError, Seeds, UsageError, new_run_id
from umbel.deployment.addresses import split_address
from umbel.deployment.channel import Credentials, open_blocking_channel
from umbel.deployment.loopthread import LoopThread
from umbel.deployment.server.settings import ServerSettings
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import ServerAppsStub
from umbel.records import ArrayRecord

if TYPE_CHECKING:
    from umbel.coordinator import EndStatus
    from umbel.deployment.server.server import Server
    from umbel.serverapp import Observer, Run, ServerApp, Strategy

_LOGGER = logging.getLogger("umbel.deployment")


def start_server(
    server_address: str = "127.0.0.1:9200",
    *,
    server_app: ServerApp | None = None,
    strategy: Strategy | None = None,
    initial_arrays: ArrayRecord | None = None,
    certificates: tuple[bytes, bytes, bytes] | None = None,
    seed: int | None = None,
    run_config: Mapping[str, Any] | None = None,
    run_dir: Path | str | None = None,
    observers: Sequence[Observer] = (),
    data_dir: Path | str | None = None,
    node_grace_s: float = 30.0,
    **options: Any,
) -> Any:
    """Serve clients that ``start_client`` and ``umbel node`` bring, for one run.

    The server app, or the strategy, runs in the calling thread. It waits for as many nodes as it
    asks for. When it is done, clients are told, and those of ``start_client`` end.

    Parameters
    ----------
    server_address : str
        Where to listen, ``"host:port"``.
    server_app : ServerApp
        The app whose ``main`` runs the federation. Give this or ``strategy``.
    strategy : Strategy
        The strategy to start.
    initial_arrays : ArrayRecord
        The global model to begin with, for ``strategy``.
    certificates : tuple of bytes, optional
        The certificate of the authority, the server's own, and its key, each as PEM. Connections
        are encrypted then and the server proves who it is; clients prove nothing. Without,
        everybody who reaches the port may take part, read and change everything.
    seed : int, optional
        The root of all randomness, as in :func:`umbel.simulation.run_simulation`: with the same
        seed the outcome is the same. Without one it is drawn.
    run_config : mapping, optional
        ``context.run_config`` on both sides.
    run_dir : path, optional
        Where the run log, the metrics and the final model go; without it nothing is written.
    observers : sequence of callables
        Called with every :class:`umbel.serverapp.RunEvent`.
    data_dir : path, optional
        Where messages and replies lie; by default a folder that goes when the call returns.
    node_grace_s : float
        How long work waits for a client whose connection is lost, before it is a failure.
    **options
        The other arguments of :meth:`umbel.serverapp.Strategy.start`, such as ``num_rounds``, for
        ``strategy``.

    Returns
    -------
    object
        What ``main`` returned; with ``strategy``, its ``Result``.

    Raises
    ------
    UsageError
        Not exactly one of ``server_app`` and ``strategy`` is given, or what does not go with it.
    ConfigError
        The address cannot be listened on, or a folder cannot be used.
    UmbelError
        The run failed; see :meth:`umbel.serverapp.Strategy.start`.

    Notes
    -----
    ``docs/deploying.md`` has a pair of scripts.
    """
    from umbel.serverapp import Run

    app = _app(server_app, strategy, initial_arrays, options)
    with ExitStack() as stack:
        if data_dir is None:
            data_dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="umbel-server-"))
        settings = replace(
            _settings(server_address, Path(data_dir), certificates), node_grace_s=node_grace_s
        )
        run = Run(
            new_run_id(SYSTEM_CLOCK.now()),
            Seeds(seed),
            dict(run_config or {}),
            None if run_dir is None else Path(run_dir),
            tuple(observers),
        )
        stack.callback(run.close)
        loop = stack.enter_context(LoopThread())
        return _serve(app, run, settings, loop, seeded=seed is not None)


def _serve(
    app: ServerApp, run: Run, settings: ServerSettings, loop: LoopThread, *, seeded: bool
) -> Any:
    """Run the app between the beginning and the end of a server."""
    from umbel.base import preserved_globals
    from umbel.deployment.server.hosting import carry_through, run_app

    server = loop.call(_start(settings, run, seeded=seeded))
    status: EndStatus = "succeeded"
    detail = ""
    try:
        with open_blocking_channel(f"unix:{server.socket}") as channel, ExitStack() as stack:
            if seeded:
                stack.enter_context(preserved_globals())
            stub = ServerAppsStub(channel)
            began = {"app": "(an object)", "app_dir": None, "nodes": 0}
            return carry_through(
                run,
                began,
                lambda: run_app(app, run, stub, server.plane.objects, seeded=seeded),
            )
    except BaseException as error:
        status, detail = "failed", f"{type(error).__name__}: {error}"
        raise
    finally:
        loop.call(_end(server, run.run_id, status, detail))


async def _start(settings: ServerSettings, run: Run, *, seeded: bool) -> Server:
    """Return a server that listens, and knows of the run."""
    from umbel.coordinator import RunStarted, RunSubmitted
    from umbel.deployment.server.runspec import RunSpec
    from umbel.deployment.server.server import Server

    server = Server(settings, launches=False)
    try:
        await server.start()
        info = wire.RunInfo(
            run_id=run.run_id,
            seed=run.seeds.seed,
            seeded=seeded,
            run_config=json.dumps(run.run_config),
        )
        spec = RunSpec(wire.SubmitRequest(run=info)).encode()
        now = server.plane.clock.now()
        await server.plane.submit(RunSubmitted(at=now, run=run.run_id, owner="anyone", spec=spec))
        await server.plane.submit(RunStarted(at=now, run=run.run_id))
    except BaseException:
        await server.close()
        raise
    return server


async def _end(server: Server, run_id: str, status: EndStatus, detail: str) -> None:
    """Tell the nodes that the run is over and that the server is not coming back; close it."""
    from umbel.coordinator import RunEnded

    try:
        now = server.plane.clock.now()
        await server.plane.submit(RunEnded(at=now, run=run_id, status=status, detail=detail))
        server.plane.dismiss("the run is over")
    finally:
        await server.close()


def _settings(
    address: str, data_dir: Path, certificates: tuple[bytes, bytes, bytes] | None
) -> ServerSettings:
    host, port = split_address(address)
    if certificates is None:
        if not _is_loopback(host):
            _LOGGER.warning(
                "no TLS on %s: whoever reaches this port may read and change everything; "
                "give certificates=(authority, certificate, key)",
                address,
            )
        credentials = None
    else:
        if [type(part) for part in certificates] != [bytes] * 3:
            raise ConfigError(
                "certificates are three PEM files as bytes",
                hint="certificates=(authority, certificate, key)",
            )
        authority, certificate, key = certificates
        credentials = Credentials(authority, key, certificate)
    return ServerSettings(
        data_dir,
        f"[{host}]" if ":" in host else host,
        port,
        insecure=certificates is None,
        credentials=credentials,
        client_certificates=False,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _app(
    server_app: ServerApp | None,
    strategy: Strategy | None,
    initial_arrays: ArrayRecord | None,
    options: Mapping[str, Any],
) -> ServerApp:
    from umbel.serverapp import ServerApp, Strategy

    if (server_app is None) == (strategy is None):
        raise UsageError(
            "a server runs either a server_app or a strategy",
            hint="start_server(address, strategy=..., initial_arrays=..., num_rounds=...)",
        )
    if server_app is not None:
        if not isinstance(server_app, ServerApp):
            raise UsageError(f"server_app is a {type(server_app).__name__}, not a ServerApp")
        if initial_arrays is not None or options:
            named = sorted([*options, *(["initial_arrays"] if initial_arrays is not None else [])])
            raise UsageError(
                f"{', '.join(named)} go with a strategy, and a server_app is given",
                hint="let the app's main call strategy.start with them",
            )
        return server_app
    if not isinstance(strategy, Strategy) or initial_arrays is None:
        raise UsageError(
            "a strategy begins with a model",
            hint="start_server(address, strategy=FedAvg(), initial_arrays=ArrayRecord(...))",
        )
    return _starting(strategy, initial_arrays, options)


def _starting(
    strategy: Strategy, initial_arrays: ArrayRecord, options: Mapping[str, Any]
) -> ServerApp:
    """Return an app whose main starts the strategy."""
    from umbel.serverapp import ServerApp

    start: Callable[..., Any] = strategy.start
    try:
        inspect.signature(start).bind(None, initial_arrays, **options)
    except TypeError as error:
        raise UsageError(
            f"{type(strategy).__name__}.start: {error}", hint="see umbel.Strategy.start"
        ) from None
    app = ServerApp()
    app.main()(lambda grid, context: start(grid, initial_arrays, **options))
    return app
