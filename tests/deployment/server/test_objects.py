import asyncio

import pytest
from renewing import init_server, serving
from wire_peers import Peer

from umbel.base import Unreachable
from umbel.deployment.server import objects


def test_a_push_that_stalls_does_not_keep_its_place(monkeypatch):
    monkeypatch.setattr(objects, "_CHUNK_S", 0.01)

    async def stalling():
        yield b"first"
        await asyncio.Event().wait()

    async def take() -> None:
        chunks = objects._in_time(stalling())
        assert await anext(chunks) == b"first"
        with pytest.raises(Unreachable, match=r"no chunk came for 0\.01 s"):
            await anext(chunks)

    asyncio.run(take())


def test_a_user_does_not_wait_for_nodes_to_end(monkeypatch, tmp_path):
    monkeypatch.setattr(objects, "_PUSHES_MAX", 0)  # as when so many nodes are at it
    init_server(tmp_path / "server")
    with serving(tmp_path / "server") as here:
        alice = Peer(here, here.joined(tmp_path / "alice", "user", "alice"))
        item = alice.push(b"an app")
        assert here.server.plane.objects.size(item.hash) == len(b"an app")
        alice.close()
