"""The network's grid: what a server app sees of the nodes that are connected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from umbel.base import NotEnoughNodes, UmbelError, UsageError
from umbel.deployment.errors import mapped
from umbel.deployment.server.cohort import Cohort
from umbel.deployment.server.mapped import MappedFiles
from umbel.deployment.server.outgoing import Outbox, put
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import ServerAppsStub
from umbel.records import (
    DEFAULT_CODEC,
    ArrayRecord,
    Error,
    ErrorCode,
    Message,
    RecordDict,
    codec_of,
    decode,
    encode,
)
from umbel.serverapp import Folded, Grid, Replies, Run, StoredArrays, no_reply
from umbel.store import ObjectStore
from umbel.updates import Aggregator

_PULL_S = 1.0


class NetworkGrid(Grid):
    """A grid of the nodes that are connected to a server.

    Parameters
    ----------
    run : Run
        The run.
    stub : ServerAppsStub
        The server, which runs on the same machine.
    objects : ObjectStore
        The server's object store: bodies are written to it and read from it without passing
        through the server.
    """

    def __init__(self, run: Run, stub: ServerAppsStub, objects: ObjectStore) -> None:
        self._run = run
        self._stub = stub
        self._objects = objects
        self._outbox = Outbox(run, objects)
        self._files = MappedFiles()
        self._codecs: dict[int, str] = {}
        self._pushed: dict[str, Message] = {}
        self._done: list[str] = []

    @property
    def run(self) -> Run:
        return self._run

    def get_node_ids(self) -> Sequence[int]:
        return self._nodes(0, 0.0)

    def wait_for_nodes(self, count: int, timeout_s: float) -> Sequence[int]:
        nodes = self._nodes(0, 0.0)
        if len(nodes) < count:
            self._run.emit("waiting", wanted=count, connected=len(nodes), timeout_s=timeout_s)
            nodes = self._nodes(count, timeout_s)
        if len(nodes) < count:
            raise NotEnoughNodes(
                f"{count} nodes are needed and {len(nodes)} are connected after {timeout_s:g} s",
                hint="start more nodes, or lower fraction_*, min_*_nodes, min_available_nodes",
            )
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        messages = list(messages)
        self._push(messages)
        ids = [message.metadata.message_id for message in messages]
        self._pushed.update(zip(ids, messages, strict=True))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ids = list(message_ids)
        for name in ids:
            if name not in self._pushed:
                raise UsageError(
                    f"no reply can come to message {name!r}",
                    hint="pull ids that push_messages returned, each until its reply has come",
                )
        waiting = [self._pushed[name] for name in ids]
        replies = list(self._receive(waiting, None, ready_only=True))
        if not replies and waiting:
            replies = [next(self._receive(waiting, _PULL_S), (-1, waiting[0]))]
        found = [(position, reply) for position, reply in replies if position >= 0]
        for position, _ in found:
            del self._pushed[ids[position]]
        return [reply for _, reply in sorted(found, key=lambda item: item[0])]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Replies:
        messages = list(messages)
        self._push(messages)
        return Replies(self._in_order(messages, timeout))

    def fold(
        self,
        messages: Iterable[Message],
        aggregator: Aggregator[Any],
        *,
        timeout: float | None = None,
        needed: int = 1,
    ) -> Folded:
        messages = list(messages)
        self._push(messages)
        cohort = Cohort(self._run, messages, aggregator, self._files, self._objects.folder)
        for position, reply in self._receive(messages, timeout):
            cohort.take(position, reply)
        self._give_up(cohort.missing(), timeout)
        return cohort.folded(needed, no_reply(timeout))

    def publish(self, arrays: ArrayRecord) -> ArrayRecord:
        """Write the model to the object store once, and return views of what was written."""
        written = self._outbox.known({"arrays": arrays})
        if written is None or not self._objects.touch(written.hash):
            written = put(self._objects, encode(RecordDict({"arrays": arrays})))
        views = self._open(written).array_records["arrays"]
        self._outbox.know({"arrays": views}, written)
        return views

    def stored(self, arrays: ArrayRecord) -> StoredArrays | None:
        written = self._outbox.known({"arrays": arrays})
        if written is None or not self._objects.touch(written.hash):
            return None
        path = self._objects.path(written.hash)
        return StoredArrays(path, written.hash, written.size_bytes)

    def checkpointed(self) -> None:
        """Let the server forget the replies that went into the checkpoint."""
        self._release(self._done)
        self._done = []

    def _nodes(self, at_least: int, timeout_s: float) -> Sequence[int]:
        request = wire.NodesRequest(run_id=self._run.run_id, at_least=at_least, timeout_s=timeout_s)
        try:
            reply = self._stub.ConnectedNodes(request)
        except grpc.RpcError as error:
            raise mapped(error) from error
        self._codecs.update({node: reply.codecs.get(node, "") for node in reply.node_ids})
        return tuple(reply.node_ids)

    def _push(self, messages: list[Message]) -> None:
        if not self._codecs.keys() >= {message.metadata.dst_node_id for message in messages}:
            self._nodes(0, 0.0)  # nobody has asked for them yet
        outgoing = self._outbox.write(messages, self._codecs)
        # In parts, since a request has a bound in size.
        for first in range(0, len(outgoing), 1000):
            request = wire.PushMessagesRequest(
                run_id=self._run.run_id, messages=outgoing[first : first + 1000]
            )
            try:
                self._stub.PushMessages(request)
            except grpc.RpcError as error:
                raise mapped(error) from error

    def _receive(
        self, messages: list[Message], timeout: float | None, *, ready_only: bool = False
    ) -> Iterator[tuple[int, Message]]:
        """Yield replies as they come, each with the position of its message.

        Those that have not come within ``timeout`` seconds are given up.
        """
        positions = {message.metadata.message_id: at for at, message in enumerate(messages)}
        request = wire.RepliesRequest(
            run_id=self._run.run_id, message_ids=list(positions), ready_only=ready_only
        )
        failed = 0
        call = self._stub.Replies(request, timeout=timeout)
        try:
            for done, answer in enumerate(call, 1):
                position = positions.pop(answer.reply.message_id)
                message = messages[position]
                reply = self._reply(message, answer.reply)
                self._done.append(answer.reply.message_id)
                if reply.has_error():
                    failed += 1
                    # It may have come back with another codec: the next push asks.
                    self._codecs.pop(message.metadata.dst_node_id, None)
                    self._run.fail(
                        message.metadata.dst_node_id, reply.error, message.metadata.message_type
                    )
                if not ready_only:
                    self._run.progress(done, len(messages), failed)
                yield position, reply
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise mapped(error) from error
        finally:
            call.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs says nothing of it

    def _give_up(self, messages: list[Message], timeout: float | None) -> None:
        for message in messages:
            metadata = message.metadata
            self._run.fail(metadata.dst_node_id, no_reply(timeout), metadata.message_type)
        self._release([message.metadata.message_id for message in messages])

    def _in_order(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        early: dict[int, Message] = {}
        upto = 0
        for position, reply in self._receive(messages, timeout):
            early[position] = reply
            while upto in early:
                yield early.pop(upto)
                upto += 1
        missing = [m for at, m in enumerate(messages) if at >= upto and at not in early]
        self._give_up(missing, timeout)
        for position in sorted(early):
            yield early.pop(position)

    def _reply(self, request: Message, reply: wire.Reply) -> Message:
        if reply.WhichOneof("outcome") == "failure":
            failure = reply.failure
            error = Error(failure.code, failure.reason, kind=failure.kind or None)
            return Message(error, reply_to=request)
        try:
            is_inline = reply.WhichOneof("outcome") == "content"
            if is_inline:
                content = codec_of(reply.codec).decode(reply.content)
            else:
                content = self._open(reply.body, reply.codec)
        except UmbelError as error:
            told = Error(
                ErrorCode.UNKNOWN, f"its reply cannot be read: {error}", kind=type(error).__name__
            )
            return Message(told, reply_to=request)
        return Message(content, reply_to=request)

    def _open(self, body: wire.Object, codec: str = "") -> RecordDict:
        path: Path = self._objects.path(body.hash)
        data = self._files.open(path)
        if codec not in ("", DEFAULT_CODEC):
            # Where the arrays are read as views of a file, replies that wait take no memory.
            content = codec_of(codec).decode(data)
            data = self._files.hold(encode(content), self._objects.folder)
        return decode(data)

    def _release(self, ids: list[str]) -> None:
        if not ids:
            return
        try:
            self._stub.Release(wire.ReleaseRequest(run_id=self._run.run_id, message_ids=ids))
        except grpc.RpcError as error:
            raise mapped(error) from error
