"""Someone who speaks the wire word by word, and says what no client of ours would."""

import queue

import grpc
import numpy as np
import pytest

from umbel.base import UmbelError, content_hash
from umbel.deployment import Identity
from umbel.deployment.channel import open_blocking_channel
from umbel.deployment.errors import mapped
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import NodesStub, ObjectsStub, RunsStub
from umbel.records import ArrayRecord, MetricRecord, RecordDict, encode

HELLO = {"protocol_min": 1, "protocol_max": 1, "capacity": 1, "codecs": ["safetensors"]}


class Peer:
    """Someone with a certificate, or without TLS, who says what it likes."""

    def __init__(self, here, identity: Identity | None = None) -> None:
        keys = None if identity is None else identity.credentials
        self._channel = open_blocking_channel(here.address, keys)
        self.objects = ObjectsStub(self._channel)
        self.runs = RunsStub(self._channel)
        self.node = NodesStub(self._channel)

    def connect(self, **hello):
        return Session(self.node, wire.FromNode(hello=wire.Hello(**(HELLO | hello))))

    def push(self, data: bytes, name: str | None = None, **fields):
        item = wire.Object(hash=name or content_hash([data]), size_bytes=len(data))
        chunk = wire.Chunk(data=data, **fields)
        self.objects.Push(iter([wire.PushChunk(object=item, chunk=chunk)]), timeout=20)
        return item

    def pull(self, item: wire.Object) -> bytes:
        chunks = self.objects.Pull(wire.PullRequest(object=item), timeout=20)
        return b"".join(chunk.data for chunk in chunks)

    def close(self) -> None:
        self._channel.close()


class Session:
    """A node's stream, word by word."""

    def __init__(self, stub, first: wire.FromNode) -> None:
        self._words: queue.SimpleQueue = queue.SimpleQueue()
        self._words.put(first)
        self._call = stub.Connect(iter(self._words.get, None))

    def say(self, **what) -> None:
        self._words.put(wire.FromNode(**what))

    def hear(self, kind: str):
        """Return the next word of this kind."""
        for message in self._call:
            if message.WhichOneof("kind") == kind:
                return getattr(message, kind)
        raise EOFError(f"the stream ended without {kind}")

    def answer(self, task: wire.Task, add: float = 1.0) -> None:
        self.say(reply=wire.Reply(message_id=task.message_id, content=good_reply(add)))

    def close(self) -> None:
        self._words.put(None)
        self._call.cancel()


def good_reply(add: float) -> bytes:
    metrics = MetricRecord({"num-examples": 1, "node": add, "calls": 1})
    arrays = ArrayRecord({"w": np.full(4, add)})
    return b"".join(encode(RecordDict({"arrays": arrays, "metrics": metrics})))


def refused(code, call, *arguments, **options):
    """Assert that a call is refused with this code; return the text."""
    with pytest.raises((grpc.RpcError, UmbelError)) as caught:
        call(*arguments, **options)
    error = caught.value
    error = error if isinstance(error, UmbelError) else mapped(error)
    assert error.code == code, error
    return str(error)
