"""The server: everything put together, started, and ended in order."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from umbel.base import SYSTEM_CLOCK, ConfigError, NotAuthenticated, NotFound, Revoked, sync
from umbel.coordinator import RunEnded, RunErased, may_pull, may_push
from umbel.deployment.addresses import reached_at
from umbel.deployment.bundle import unpack_bundle
from umbel.deployment.channel import server_options
from umbel.deployment.server.callers import Caller, Callers
from umbel.deployment.server.certificate import ServerCertificate
from umbel.deployment.server.enrolment import EnrolmentService
from umbel.deployment.server.http import HttpServer, http_app
from umbel.deployment.server.launcher import Launcher
from umbel.deployment.server.metrics import plane_registry
from umbel.deployment.server.nodes import NodesService
from umbel.deployment.server.objects import ObjectsService
from umbel.deployment.server.openfiles import OpenFiles
from umbel.deployment.server.plane import Plane
from umbel.deployment.server.runs import NewToken, RunsService
from umbel.deployment.server.serverapps import ServerAppsService
from umbel.deployment.server.settings import ServerSettings
from umbel.deployment.tokens import JoinToken, create_token, granted_role
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire import umbel_pb2_grpc
from umbel.store import ObjectStore, SqlJournal

_GRACE_S = 5.0
_TOKEN_S = 3600.0
_LOGGER = logging.getLogger("umbel.deployment")


class Server:
    """A server in this process's asyncio loop.

    Parameters
    ----------
    settings : ServerSettings
        How it runs.
    launches : bool
        Whether users submit runs and a process is started for each. Without, this process submits
        and serves them itself, and nobody else does.
    """

    def __init__(self, settings: ServerSettings, *, launches: bool = True) -> None:
        self._settings = settings
        self._launches = launches
        data = settings.data_dir
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._runs_dir = data / "runs"
        self._apps_dir = data / "apps"
        self._objects = ObjectStore(data / "objects", settings.objects_max_bytes, settings.fsync)
        self._journal = SqlJournal(f"sqlite:///{data / 'journal.sqlite'}", settings.fsync)
        # The path of a socket has to be short, which that of the data folder may not be.
        self._socket_dir = Path(tempfile.mkdtemp(prefix="umbel-"))
        self.socket = self._socket_dir / "s"
        self._launcher = Launcher(self.socket, self._runs_dir, self._give_up)
        self._ending: dict[str, asyncio.Task[None]] = {}
        self.plane = Plane(
            settings.limits,
            self._journal,
            self._objects,
            SYSTEM_CLOCK,
            self._launcher.start if launches else _leave,
            self._stop,
            self._erase,
            fsync=settings.fsync,
        )
        self.port = settings.port
        self.draining = False
        self._grpc: list[grpc.aio.Server] = []
        self._http: HttpServer | None = None
        self._files = OpenFiles(SYSTEM_CLOCK)
        self._timers: list[asyncio.Task[None]] = []
        keys = None if settings.insecure else settings.credentials
        self._certificate = None if keys is None else ServerCertificate(settings, keys)

    async def start(self) -> None:
        """Replay the journal, listen, and launch the runs that are running.

        Raises
        ------
        ConfigError
            The port cannot be listened on.
        """
        settings = self._settings
        if settings.fsync:
            await asyncio.to_thread(os.sync)  # what an earlier start left to the kernel
        self.plane.replay()
        public = grpc.aio.server(options=server_options())
        anyone = settings.insecure or not settings.client_certificates
        callers = Callers(insecure=anyone, check=self._check)
        nodes = NodesService(self.plane, callers, self._files)
        umbel_pb2_grpc.add_NodesServicer_to_server(nodes, public)
        objects = ObjectsService(self._objects, callers, self._may_pull, self._may_push)
        public.add_generic_rpc_handlers((objects.handlers(),))
        if self._launches:
            umbel_pb2_grpc.add_RunsServicer_to_server(
                RunsService(self.plane, callers, self._runs_dir, self._new_token()), public
            )
        if settings.authority is not None:
            umbel_pb2_grpc.add_EnrolmentServicer_to_server(
                EnrolmentService(
                    self.plane, callers, settings.authority, settings.certificate_days
                ),
                public,
            )
        healthy = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, public)
        address = f"{settings.host}:{settings.port}"
        self.port = self._listen(public, address)

        private = grpc.aio.server(options=server_options())
        service = ServerAppsService(self.plane, self._runs_dir, self._app_dir, self._launcher)
        umbel_pb2_grpc.add_ServerAppsServicer_to_server(service, private)
        private.add_insecure_port(f"unix:{self.socket}")
        self._grpc = [public, private]
        for server in self._grpc:
            await server.start()
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
        if settings.http_port is not None:
            app = http_app(plane_registry(self.plane, self._certificate), self._not_ready)
            self._http = HttpServer(app, settings.host, settings.http_port)
            await self._http.start()
        self.plane.begin()
        works = [self.plane.keep_time(), self._files.watch()]
        if self._certificate is not None:
            works.append(self._certificate.keep())
        self._timers = [asyncio.create_task(work) for work in works]

    async def serve(self, ended: asyncio.Event) -> None:
        """Wait until it is to end.

        Raises
        ------
        ConfigError
            The journal cannot be written any more, so that nothing can be promised.
        """
        waiting = asyncio.create_task(ended.wait())
        await asyncio.wait({waiting, *self._timers}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for timer in self._timers:
            if timer.done():
                await timer

    async def close(self) -> None:
        """End in order: no new work, streams closed, server apps ended; runs go on next time."""
        self.draining = True
        await self._launcher.close()
        for server in self._grpc:
            await server.stop(_GRACE_S if server is self._grpc[-1] else 0.5)
        if self._http is not None:
            await self._http.close()
        for timer in self._timers:
            timer.cancel()
        await asyncio.gather(*self._timers, return_exceptions=True)
        # What is in the journal by now may have more to erase, and that more for the journal.
        for _ in range(2):
            await asyncio.gather(self.plane.settled(), return_exceptions=True)
            await asyncio.gather(*self._ending.values(), return_exceptions=True)
        self._journal.close()
        shutil.rmtree(self._socket_dir, ignore_errors=True)

    def _listen(self, server: grpc.aio.Server, address: str) -> int:
        settings = self._settings
        try:
            if settings.insecure:
                return server.add_insecure_port(address)
            if self._certificate is None:
                raise ConfigError(
                    "a server needs a certificate",
                    hint="make one with: umbel server init; or try it out with --insecure",
                )
            return server.add_secure_port(address, self._certificate.for_handshakes())
        except RuntimeError as error:
            raise ConfigError(
                f"{address} cannot be listened on",
                hint="is that an address of this machine (IPv6 in brackets), and is the port free?",
            ) from error

    def _check(self, caller: Caller) -> None:
        if str(caller.principal) in self._settings.revoked:
            raise Revoked(
                f"{caller.principal} was shut out",
                hint="ask the server's admin for a token of another name",
            )
        if caller.node_id is None:
            return
        node = self.plane.state.nodes.get(caller.node_id)
        if node is None:
            raise NotFound(
                f"no node {caller.node_id} has joined this server",
                hint="ask the server's admin for a new token, and join again",
            )
        if node.fingerprint != caller.key:
            # The journal has lost a join, and given the number once more.
            raise NotAuthenticated(
                "another node has this number; was the server restored from an older copy?",
                hint="ask the server's admin for a new token, and join again",
                node=node.id,
            )
        if node.revoked:
            raise Revoked(
                f"node {node.id} was shut out", hint="ask the server's admin for a new token"
            )

    def _new_token(self) -> NewToken | None:
        authority = self._settings.authority
        if authority is None:
            return None

        def new_token(request: wire.CreateTokenRequest) -> JoinToken:
            return create_token(
                authority,
                granted_role(request.role),
                reached_at(self._settings.addresses, self._settings.host, self.port),
                request.ttl_s or _TOKEN_S,
                request.name or None,
                SYSTEM_CLOCK,
            )

        return new_token

    def _may_pull(self, caller: Caller, name: str) -> bool:
        if caller.principal is None:
            return True
        if caller.node_id is not None:
            return may_pull(self.plane.state, caller.node_id, name)
        return self.plane.is_lent(name, caller.name)

    def _may_push(self, caller: Caller) -> bool:
        return caller.node_id is None or may_push(self.plane.state, caller.node_id)

    def _app_dir(self, run_id: str) -> Path:
        """Return the folder of the run's app, unpacked if it is not yet."""
        bundle = self._objects.path(self.plane.spec(run_id).run.bundle.hash)
        return unpack_bundle(bundle.read_bytes(), self._apps_dir)

    def _stop(self, run_id: str) -> None:
        self._ending[run_id] = asyncio.create_task(self._launcher.stop(run_id))

    def _erase(self, run_id: str) -> None:
        stopping = self._ending.get(run_id)
        self._ending[run_id] = asyncio.create_task(self._erase_run(run_id, stopping))

    async def _erase_run(self, run_id: str, stopping: asyncio.Task[None] | None) -> None:
        """Delete what a removed run left behind, once no process of it is there to write more."""
        if stopping is not None:
            await stopping
        try:
            await asyncio.to_thread(_remove_folder, self._runs_dir / run_id)
            self._remove_apps()
        except OSError as error:
            _LOGGER.error("not all of run %s is gone; a restart tries again: %s", run_id, error)
        else:
            self.plane.submit(RunErased(at=self.plane.clock.now(), run=run_id))
        self._ending.pop(run_id, None)

    def _remove_apps(self) -> None:
        """Delete the apps of no run, in one turn of the loop: no run that needs one can come."""
        used = {self.plane.spec(run).run.bundle.hash for run in self.plane.state.runs}
        for app in self._apps_dir.glob("[!.]*"):
            if app.name not in used:
                shutil.rmtree(app)

    def _give_up(self, run_id: str, reason: str) -> None:
        run = self.plane.state.runs.get(run_id)
        if run is not None and run.active:
            now = self.plane.clock.now()
            self.plane.submit(RunEnded(at=now, run=run_id, status="failed", detail=reason))

    def _not_ready(self) -> str | None:
        return "the server is about to end" if self.draining else self._files.full()


def _remove_folder(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
        sync(folder.parent)


def _leave(run_id: str) -> None:
    """Launch nothing: whoever submitted the run is at work on it already."""
