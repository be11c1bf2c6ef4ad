"""Many nodes in one process: each a connection of its own, with no worker and nothing on disk.

Started by ``connections.py``: ``python light_nodes.py ADDRESS FOLDER FIRST COUNT``. Says in JSON
lines how many are connected and which are lost, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np

from umbel.base import UmbelError, content_hash, raise_open_files_limit
from umbel.deployment.channel import Credentials
from umbel.deployment.chunks import read_chunk
from umbel.deployment.identity import Identity
from umbel.deployment.node.connection import Connection, connected
from umbel.deployment.node.settings import NodeSettings
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ArrayRecord, MetricRecord, RecordDict, decode, encode

GREETING_AT_ONCE = 32


class LightNodes:
    """Connects nodes and answers for them."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder
        self._turn = asyncio.Semaphore(GREETING_AT_ONCE)
        self._connected = 0

    async def be(self, number: int) -> None:
        """Be one node, until its session ends."""
        settings = NodeSettings(
            self._address,
            self._folder,
            trust_any=True,
            name=f"light-{number}",
            credentials=self._credentials(number),
        )
        secret = content_hash([str(number).encode()]).encode()
        try:
            async with AsyncExitStack() as stack:
                async with self._turn:
                    connection = await stack.enter_async_context(connected(settings, secret, []))
                self._connected += 1
                say(connected=self._connected)
                beat = asyncio.create_task(connection.beat())
                stack.callback(beat.cancel)
                async for message in connection.messages():
                    if message.WhichOneof("kind") == "task":
                        await answer(connection, message.task)
        except (UmbelError, grpc.RpcError, OSError) as error:
            say(lost=number, why=f"{type(error).__name__}: {error}")

    def _credentials(self, number: int) -> Credentials | None:
        folder = self._folder / str(number)
        if not folder.exists():
            return None
        identity = Identity.load(folder)
        return identity.credentials


async def answer(connection: Connection, task: wire.Task) -> None:
    """Send back the model that came, each with another number added."""
    await connection.send(wire.FromNode(accepted=wire.Accepted(message_id=task.message_id)))
    pull = connection.objects.pull(wire.PullRequest(object=task.body))
    model = decode(b"".join([bytes(read_chunk(raw).data) async for raw in pull]))
    shift = np.float32(int(connection.welcome.node_id) + 1) / 1024
    arrays = {key: view + shift for key, view in model.array_records["arrays"].views().items()}
    metrics = MetricRecord({"num-examples": 1})
    content = encode(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}))
    reply = wire.Reply(message_id=task.message_id, content=b"".join(content))
    await connection.send(wire.FromNode(reply=reply))


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def main() -> None:
    raise_open_files_limit()
    address, folder, first, count = sys.argv[1:]
    nodes = LightNodes(address, Path(folder))
    tasks = [
        asyncio.create_task(nodes.be(number))
        for number in range(int(first), int(first) + int(count))
    ]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
