"""The server's end of ``ServerApps``: what the processes of server apps ask, on a Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio

from umbel.base import UmbelError
from umbel.coordinator import (
    Answer,
    EndStatus,
    Message,
    MessagesPushed,
    MessagesReleased,
    Object,
    RunEnded,
    RunStarted,
)
from umbel.deployment.errors import abort_with, refusing
from umbel.deployment.server.launcher import Launcher
from umbel.deployment.server.plane import Plane
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import ServerAppsServicer

_Context = grpc.aio.ServicerContext[Any, Any]


class ServerAppsService(ServerAppsServicer):
    """Serves the processes that the server itself has started.

    The socket lies in a folder that only the server's own user can enter.
    """

    def __init__(
        self,
        plane: Plane,
        runs_dir: Path,
        app_dir: Callable[[str], Path],
        launcher: Launcher,
    ) -> None:
        self._plane = plane
        self._runs_dir = runs_dir
        self._app_dir = app_dir
        self._launcher = launcher

    @refusing
    async def Begin(  # noqa: N802  the names are the wire's
        self, request: wire.BeginRequest, context: _Context
    ) -> wire.BeginReply:
        run_id = request.run_id
        await self._plane.submit(RunStarted(at=self._plane.clock.now(), run=run_id))
        spec = self._plane.spec(run_id)
        app_dir = await asyncio.to_thread(self._app_dir, run_id)
        return wire.BeginReply(
            run=spec.run,
            server_app=spec.submitted.server_app,
            app_dir=str(app_dir),
            run_dir=str(self._runs_dir / run_id),
            objects_dir=str(self._plane.objects.folder),
        )

    async def ConnectedNodes(  # noqa: N802
        self, request: wire.NodesRequest, context: _Context
    ) -> wire.ConnectedNodesReply:
        nodes = await self._plane.connected(request.at_least, request.timeout_s)
        known = self._plane.codecs
        codecs = {node: known[node] for node in nodes if known.get(node)}
        return wire.ConnectedNodesReply(node_ids=nodes, codecs=codecs)

    @refusing
    async def PushMessages(  # noqa: N802
        self, request: wire.PushMessagesRequest, context: _Context
    ) -> wire.PushMessagesReply:
        messages = tuple(
            Message(
                id=item.message_id,
                run=request.run_id,
                node=item.node_id,
                type=item.message_type,
                group=item.group_id,
                created_at=item.created_at,
                expires_at=item.created_at + item.ttl_s,
                body=Object(item.body.hash, item.body.size_bytes) if item.body.hash else None,
                records=item.records,
                codec=item.codec,
            )
            for item in request.messages
        )
        await self._plane.submit(
            MessagesPushed(at=self._plane.clock.now(), run=request.run_id, messages=messages)
        )
        return wire.PushMessagesReply()

    async def Replies(  # noqa: N802
        self, request: wire.RepliesRequest, context: _Context
    ) -> AsyncIterator[wire.MessageReply]:
        plane = self._plane
        try:
            with plane.awaiting(request.message_ids) as queue:
                open_ids = set()
                for name in request.message_ids:
                    answer = plane.answer(name)
                    if answer is None:
                        open_ids.add(name)
                    else:
                        yield self._reply(name, answer)
                while open_ids and not request.ready_only:
                    name = await queue.get()
                    answer = plane.answer(name)
                    if name in open_ids and answer is not None:
                        open_ids.discard(name)
                        yield self._reply(name, answer)
        except UmbelError as error:
            await abort_with(context, error)

    @refusing
    async def Release(  # noqa: N802
        self, request: wire.ReleaseRequest, context: _Context
    ) -> wire.ReleaseReply:
        self._launcher.progressed(request.run_id)
        ids = tuple(request.message_ids)
        await self._plane.submit(
            MessagesReleased(at=self._plane.clock.now(), run=request.run_id, messages=ids)
        )
        return wire.ReleaseReply()

    @refusing
    async def End(  # noqa: N802
        self, request: wire.EndRequest, context: _Context
    ) -> wire.EndReply:
        status: EndStatus = "succeeded" if request.status == "succeeded" else "failed"
        safe = self._plane.submit(
            RunEnded(
                at=self._plane.clock.now(),
                run=request.run_id,
                status=status,
                detail=request.detail,
            )
        )
        self._launcher.forget(request.run_id)  # at once: the run may be resumed meanwhile
        await safe
        return wire.EndReply()

    def _reply(self, name: str, answer: Answer) -> wire.MessageReply:
        reply = wire.Reply(message_id=name, codec=answer.codec)
        if answer.failure is not None:
            failure = answer.failure
            reply.failure.CopyFrom(
                wire.Failure(code=failure.code, kind=failure.kind, reason=failure.reason)
            )
        elif answer.content is not None:
            reply.content = answer.content
        elif answer.object is not None:
            reply.body.hash = answer.object.hash
            reply.body.size_bytes = answer.object.size_bytes
        node = self._plane.state.messages[name].message.node
        return wire.MessageReply(node_id=node, reply=reply)
