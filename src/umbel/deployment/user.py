"""What a user asks of a server: runs, logs, files, nodes, tokens."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from umbel.base import SYSTEM_CLOCK, AppProject, ProtocolError, UmbelError, content_hash
from umbel.deployment.bundle import build_bundle, sign
from umbel.deployment.certificates import make_request
from umbel.deployment.channel import Credentials, open_blocking_channel
from umbel.deployment.connections import Connection
from umbel.deployment.errors import mapped
from umbel.deployment.identity import Identity
from umbel.deployment.transfer import CHUNK_BYTES
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import EnrolmentStub, ObjectsStub, RunsStub

_LOGGER = logging.getLogger("umbel.deployment")
_ANSWER_S = 30.0
_PUSH_S = 600.0
"""A busy server has nodes push before us: an app waits for its turn."""

_FLWR_SETUP = "umbel.flwr:install"


class UserClient:
    """A user's connection to a server; its certificate is renewed when it is time.

    Parameters
    ----------
    connection : Connection
        Which server, and as whom.

    Raises
    ------
    ConfigError
        The identity of the connection cannot be read.
    NotAuthenticated
        Its certificate has expired.
    """

    def __init__(self, connection: Connection) -> None:
        identity = None
        if connection.identity_dir is not None:
            identity = Identity.load(connection.identity_dir)
            identity.check_valid(SYSTEM_CLOCK.now())
        credentials = None if identity is None else identity.credentials
        self._channel = open_blocking_channel(connection.address, credentials)
        self._runs = RunsStub(self._channel)
        self._objects = ObjectsStub(self._channel)
        if identity is not None and connection.identity_dir is not None:
            self._renew(identity, connection.identity_dir)

    def submit(
        self, project: AppProject, *, seed: int, seeded: bool, signing_key: bytes | None = None
    ) -> wire.RunState:
        """Send the app and start a run of it.

        Parameters
        ----------
        project : AppProject
            The app, with its settings.
        seed : int
            The root of all randomness on the server.
        seeded : bool
            Whether clients are seeded from it as well, which makes the run repeatable.
        signing_key : bytes, optional
            PEM, from ``new_signing_key``: signs the app, for nodes that trust this key alone.

        Raises
        ------
        ConfigError
            The key is none to sign with.
        """
        bundle = build_bundle(project.root)
        info = wire.RunInfo(
            bundle=wire.Object(hash=content_hash([bundle]), size_bytes=len(bundle)),
            bundle_signature=sign(bundle, signing_key) if signing_key else "",
            client_app=project.components["clientapp"],
            run_config=json.dumps(project.run_config),
            seeded=seeded,
            seed=seed,
            app_name=project.name,
            app_version=project.version,
            setup=_FLWR_SETUP if "flwr" in project.tools else "",
        )
        with _mapping():
            self._push(info.bundle, bundle)
            return self._runs.Submit(
                wire.SubmitRequest(run=info, server_app=project.components["serverapp"]),
                timeout=_ANSWER_S,
            )

    def runs(self) -> list[wire.RunState]:
        """Return the user's runs; all runs to an admin."""
        with _mapping():
            return list(self._runs.List(wire.ListRunsRequest(), timeout=_ANSWER_S).runs)

    def watch(self, run_id: str, *, follow: bool, from_entry: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the entries of the run's log, until it ends if it is followed."""
        request = wire.WatchRequest(run_id=run_id, follow=follow, from_entry=from_entry)
        with _mapping():
            for item in self._runs.Watch(request):
                yield json.loads(item.line)

    def stop(self, run_id: str) -> wire.RunState:
        """End a run."""
        with _mapping():
            return self._runs.Stop(wire.RunRequest(run_id=run_id), timeout=_ANSWER_S)

    def resume(self, run_id: str) -> wire.RunState:
        """Let a run that failed or was stopped go on from its last checkpoint."""
        with _mapping():
            return self._runs.Resume(wire.RunRequest(run_id=run_id), timeout=_ANSWER_S)

    def remove(self, run_id: str) -> wire.RunState:
        """Have the server forget a run that is over, and all that it left behind there."""
        with _mapping():
            return self._runs.Remove(wire.RunRequest(run_id=run_id), timeout=_ANSWER_S)

    def pull(self, run_id: str, folder: Path) -> list[Path]:
        """Write what the run left behind into a folder: model, metrics, log; return the files.

        Raises
        ------
        ProtocolError
            A file is not what its hash says.
        """
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        with _mapping():
            reply = self._runs.Files(wire.RunRequest(run_id=run_id), timeout=_ANSWER_S)
            for name, what in sorted(reply.files.items()):
                paths.append(self._pull(what, folder / Path(name).name))
        return paths

    def nodes(self) -> list[wire.NodeState]:
        """Return the nodes that have joined."""
        with _mapping():
            return list(self._runs.ListNodes(wire.ListNodesRequest(), timeout=_ANSWER_S).nodes)

    def revoke(self, node_id: int) -> wire.NodeState:
        """Shut a node out for good."""
        request = wire.RevokeNodeRequest(node_id=node_id)
        with _mapping():
            return self._runs.RevokeNode(request, timeout=_ANSWER_S)

    def create_token(self, role: str, name: str, ttl_s: float) -> str:
        """Return a new join token."""
        request = wire.CreateTokenRequest(role=role, name=name, ttl_s=ttl_s)
        with _mapping():
            return self._runs.CreateToken(request, timeout=_ANSWER_S).token

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _renew(self, identity: Identity, folder: Path) -> None:
        """Get a new certificate for the next time if the one that is shown ends soon."""
        now = SYSTEM_CLOCK.now()
        if now < identity.renew_at:
            return
        request = wire.RenewRequest(certificate_request=make_request(identity.key_pem))
        try:
            with _mapping():
                reply = EnrolmentStub(self._channel).Renew(request, timeout=_ANSWER_S)
            identity.renew(folder, reply.certificate)
        except (UmbelError, OSError) as error:
            _LOGGER.warning("%s, and was not renewed: %s", identity.end_text(now), error)

    def _push(self, what: wire.Object, data: bytes) -> None:
        def chunks() -> Iterator[wire.PushChunk]:
            for offset in range(0, len(data), CHUNK_BYTES):
                chunk = wire.Chunk(offset=offset, data=data[offset : offset + CHUNK_BYTES])
                yield wire.PushChunk(object=what if offset == 0 else None, chunk=chunk)

        self._objects.Push(chunks(), timeout=_PUSH_S)

    def _pull(self, what: wire.Object, path: Path) -> Path:
        partial = path.with_name(path.name + ".part")
        digest = hashlib.sha256()
        with partial.open("wb") as file:
            for chunk in self._objects.Pull(wire.PullRequest(object=what)):
                digest.update(chunk.data)
                file.write(chunk.data)
        if digest.hexdigest() != what.hash:
            raise ProtocolError("a file is not what its hash says", hint="pull again", file=path)
        return partial.replace(path)


def enrol(
    address: str,
    credentials: Credentials,
    request_pem: bytes,
    name: str,
    tags: Mapping[str, str] | None = None,
) -> tuple[bytes, str]:
    """Ask for a certificate with the credentials of a join token; return it and whose it is."""
    request = wire.EnrolRequest(name=name, certificate_request=request_pem, tags=tags or {})
    with _mapping(), open_blocking_channel(address, credentials) as channel:
        reply = EnrolmentStub(channel).Enrol(request, timeout=_ANSWER_S)
    return reply.certificate, reply.principal


@contextmanager
def _mapping() -> Iterator[None]:
    """Turn gRPC's errors into ours."""
    try:
        yield
    except grpc.RpcError as error:
        raise mapped(error) from error
