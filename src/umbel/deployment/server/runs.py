"""The server's end of ``Runs``: what users ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio

from umbel.base import BundleError, ConfigError, NotFound, UmbelError, new_run_id
from umbel.coordinator import (
    NodeRevoked,
    Object,
    Run,
    RunEnded,
    RunRemoved,
    RunResumed,
    RunSubmitted,
    TokenCreated,
)
from umbel.deployment.bundle import BUNDLE_MAX_BYTES, read_manifest
from umbel.deployment.errors import abort_with, refusing
from umbel.deployment.server.callers import Caller, Callers
from umbel.deployment.server.outgoing import put_copy
from umbel.deployment.server.plane import Plane
from umbel.deployment.server.runspec import RunSpec
from umbel.deployment.tokens import JoinToken
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import RunsServicer

_FOLLOW_S = 0.05
"""How often the log of a run is looked at while somebody follows it."""

_FILES = ("log.jsonl", "metrics.jsonl", "model.safetensors", "output.log")
_Context = grpc.aio.ServicerContext[Any, Any]
NewToken = Callable[[wire.CreateTokenRequest], JoinToken]


class RunsService(RunsServicer):
    """Serves users: their runs, and for admins the nodes."""

    def __init__(
        self, plane: Plane, callers: Callers, runs_dir: Path, new_token: NewToken | None
    ) -> None:
        self._plane = plane
        self._callers = callers
        self._runs_dir = runs_dir
        self._new_token = new_token

    @refusing
    async def Submit(  # noqa: N802  the names are the wire's
        self, request: wire.SubmitRequest, context: _Context
    ) -> wire.RunState:
        caller = self._callers.known(context).require("user", "admin")
        now = self._plane.clock.now()
        run_id = request.run.run_id = request.run.run_id or new_run_id(now)
        _check(request)
        bundle = request.run.bundle
        if not self._plane.objects.touch(bundle.hash):
            raise NotFound("the app's bundle is not here", hint="push it first")
        await asyncio.to_thread(_check_bundle, self._plane.objects.path(bundle.hash))
        await self._plane.submit(
            RunSubmitted(
                at=now,
                run=run_id,
                owner=caller.name,
                spec=RunSpec(request).encode(),
                objects=(Object(bundle.hash, bundle.size_bytes),),
            )
        )
        return self._state(self._run(run_id, caller))

    @refusing
    async def List(  # noqa: N802
        self, request: wire.ListRunsRequest, context: _Context
    ) -> wire.ListRunsReply:
        caller = self._callers.known(context).require("user", "admin")
        runs = self._plane.state.runs.values()
        seen = (run for run in runs if caller.is_admin or run.owner == caller.name)
        return wire.ListRunsReply(runs=[self._state(run) for run in seen])

    async def Watch(  # noqa: N802
        self, request: wire.WatchRequest, context: _Context
    ) -> AsyncIterator[wire.LogLine]:
        try:
            caller = self._callers.known(context).require("user", "admin")
            self._run(request.run_id, caller)
            path = self._runs_dir / request.run_id / "log.jsonl"
            async for line in self._lines(path, request, caller):
                yield wire.LogLine(line=line)
        except UmbelError as error:
            await abort_with(context, error)

    @refusing
    async def Stop(  # noqa: N802
        self, request: wire.RunRequest, context: _Context
    ) -> wire.RunState:
        caller, run = self._asked(request, context)
        detail = f"stopped by {caller.name}"
        await self._plane.submit(
            RunEnded(at=self._plane.clock.now(), run=run.id, status="stopped", detail=detail)
        )
        return self._state(self._run(run.id, caller))

    @refusing
    async def Resume(  # noqa: N802
        self, request: wire.RunRequest, context: _Context
    ) -> wire.RunState:
        caller, run = self._asked(request, context)
        await self._plane.submit(RunResumed(at=self._plane.clock.now(), run=run.id))
        return self._state(self._run(run.id, caller))

    @refusing
    async def Files(  # noqa: N802
        self, request: wire.RunRequest, context: _Context
    ) -> wire.FilesReply:
        caller, run = self._asked(request, context)
        files = {}
        for name in _FILES:
            path = self._runs_dir / run.id / name
            if path.exists():
                files[name] = await asyncio.to_thread(self._lend, path, caller)
        return wire.FilesReply(files=files)

    @refusing
    async def Remove(  # noqa: N802
        self, request: wire.RunRequest, context: _Context
    ) -> wire.RunState:
        _, run = self._asked(request, context)
        state = self._state(run)
        state.status = "removed"
        await self._plane.submit(RunRemoved(at=self._plane.clock.now(), run=run.id))
        return state

    @refusing
    async def ListNodes(  # noqa: N802
        self, request: wire.ListNodesRequest, context: _Context
    ) -> wire.ListNodesReply:
        self._callers.known(context).require("user", "admin")
        return wire.ListNodesReply(nodes=[self._node(node) for node in self._plane.state.nodes])

    @refusing
    async def RevokeNode(  # noqa: N802
        self, request: wire.RevokeNodeRequest, context: _Context
    ) -> wire.NodeState:
        self._callers.known(context).require("admin")
        if request.node_id not in self._plane.state.nodes:
            raise NotFound(f"there is no node {request.node_id}", hint="see umbel nodes ls")
        now = self._plane.clock.now()
        await self._plane.submit(NodeRevoked(at=now, node=request.node_id))
        return self._node(request.node_id)

    @refusing
    async def CreateToken(  # noqa: N802
        self, request: wire.CreateTokenRequest, context: _Context
    ) -> wire.CreateTokenReply:
        self._callers.known(context).require("admin")
        if self._new_token is None:
            raise ConfigError(
                "this server has no authority, so nobody needs a token",
                hint="nodes and users of a server without TLS just connect",
            )
        token = self._new_token(request)
        await self._plane.submit(
            TokenCreated(
                at=self._plane.clock.now(),
                token=token.token_id,
                role=token.role,
                name=token.name or "",
                expires_at=token.expires_at,
            )
        )
        return wire.CreateTokenReply(token=token.encode())

    def _asked(self, request: wire.RunRequest, context: _Context) -> tuple[Caller, Run]:
        """Return who asks, and the run that the request names."""
        caller = self._callers.known(context).require("user", "admin")
        return caller, self._run(request.run_id, caller)

    def _run(self, run_id: str, caller: Caller) -> Run:
        """Return a run of the caller's, or any to an admin; others do not exist."""
        run = self._plane.state.runs.get(run_id)
        if run is None or not (caller.is_admin or run.owner == caller.name):
            raise NotFound(f"there is no run {run_id!r}", hint="see umbel ls")
        return run

    def _state(self, run: Run) -> wire.RunState:
        return wire.RunState(
            run_id=run.id,
            app_name=self._plane.spec(run.id).run.app_name,
            status=run.status,
            owner=run.owner,
            detail=run.detail,
            submitted_at=run.submitted_at,
            ended_at=run.ended_at or 0.0,
        )

    def _node(self, node_id: int) -> wire.NodeState:
        state = self._plane.state
        node = state.nodes[node_id]
        number = state.live.session_of.get(node_id)
        session = None if number is None else state.live.sessions[number]
        status = "revoked" if node.revoked else "away" if session is None else "connected"
        seen = state.live.away_since.get(node_id, 0.0) if session is None else session.heard_at
        return wire.NodeState(
            node_id=node_id,
            name=node.name,
            status=status,
            tags=dict(node.tags),
            last_seen_at=seen,
            software=self._plane.software.get(node_id, ""),
            tasks=len(state.waiting.get(node_id, ())),
        )

    def _lend(self, path: Path, caller: Caller) -> wire.Object:
        """Put a file into the object store for a while, for this caller to pull."""
        written = put_copy(self._plane.objects, path)
        self._plane.lend(written.hash, caller.name)
        return written

    async def _lines(
        self, path: Path, request: wire.WatchRequest, caller: Caller
    ) -> AsyncIterator[str]:
        """Yield the lines of a run's log from an entry on, until the run is over if it is followed.

        A run that was over before it logged how it ended, say by being stopped, just ends.
        """
        number, position = 0, 0
        while True:
            over = not (request.follow and self._run(request.run_id, caller).active)
            if path.exists() and path.stat().st_size > position:
                with path.open("rb") as file:
                    file.seek(position)
                    data = file.read()
                whole = data[: data.rfind(b"\n") + 1]
                position += len(whole)
                for line in whole.splitlines():
                    if number >= request.from_entry:
                        yield line.decode()
                    number += 1
            if over:
                return
            await asyncio.sleep(_FOLLOW_S)


def _check_bundle(path: Path) -> None:
    """Refuse what nobody could unpack, before anything is launched."""
    size = path.stat().st_size
    if size > BUNDLE_MAX_BYTES:
        raise BundleError(
            f"a bundle of {size} bytes: more than {BUNDLE_MAX_BYTES}",
            hint="leave data out of the app's folder",
        )
    read_manifest(path.read_bytes())


def _check(request: wire.SubmitRequest) -> None:
    if ":" not in request.server_app:
        raise ConfigError("server_app does not name an object", hint='"package.module:app"')
    run_id = request.run.run_id
    if not run_id.replace("-", "").replace("_", "").isalnum() or len(run_id) > 64:
        raise ConfigError(f"{run_id!r} is no name for a run", hint="letters, digits, - and _")
    try:
        settings = json.loads(request.run.run_config or "{}")
    except ValueError as error:
        raise ConfigError(f"the run configuration is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError("the run configuration is a JSON object")
