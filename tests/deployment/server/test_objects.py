import asyncio

import pytest
from renewing import init_server, serving
from wire_peers import Peer

from umbel.base import Unreachable, content_hash
from umbel.deployment.server import objects
from umbel.deployment.server.intake import Intake
from umbel.deployment.wire import umbel_pb2 as wire


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
    monkeypatch.setattr(objects, "Intake", lambda: Intake(0))  # as when nodes have taken it all
    init_server(tmp_path / "server")
    with serving(tmp_path / "server") as here:
        alice = Peer(here, here.joined(tmp_path / "alice", "user", "alice"))
        item = alice.push(b"an app")
        assert here.server.plane.objects.size(item.hash) == len(b"an app")
        alice.close()


def test_who_waited_for_what_another_has_pushed_meanwhile_takes_no_room(monkeypatch, tmp_path):
    room = Intake(10)
    monkeypatch.setattr(objects, "Intake", lambda: room)
    init_server(tmp_path / "server")
    with serving(tmp_path / "server", insecure=True) as here:
        peer, store = Peer(here), here.server.plane.objects
        other, data = b"some bytes", b"ten bytes."

        def asked(data):
            return wire.StatRequest(hashes=[content_hash([data])], sizes_bytes=[len(data)])

        assert not peer.objects.Stat(asked(other)).complete[0]
        waits = peer.objects.Stat.future(asked(data))
        while not room._waiting:
            assert not waits.done()
        store.write(content_hash([data]), 0, data)
        store.finish(content_hash([data]), len(data))
        peer.push(other)
        assert waits.result(timeout=10).complete[0]
        assert room._free == 10
        peer.close()
