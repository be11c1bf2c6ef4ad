"""What the server keeps of a run, to launch its server app and to tell nodes about it."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.coordinator import Message
from umbel.deployment.wire import umbel_pb2 as wire


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run as it was submitted; the coordinator keeps its bytes and does not look into them."""

    submitted: wire.SubmitRequest

    @classmethod
    def decode(cls, data: bytes) -> RunSpec:
        """Read what :meth:`encode` wrote."""
        return cls(wire.SubmitRequest.FromString(data))

    def encode(self) -> bytes:
        """Return the bytes that the coordinator keeps."""
        return self.submitted.SerializeToString(deterministic=True)

    @property
    def run(self) -> wire.RunInfo:
        """What nodes are told."""
        return self.submitted.run

    def task(self, message: Message) -> wire.Task:
        """Return the task that a node gets for a message."""
        body = message.body
        return wire.Task(
            message_id=message.id,
            run=self.run,
            message_type=message.type,
            group_id=message.group,
            created_at=message.created_at,
            ttl_s=message.expires_at - message.created_at,
            body=None if body is None else wire.Object(hash=body.hash, size_bytes=body.size_bytes),
            records=message.records,
            codec=message.codec,
        )
