import asyncio

import pytest

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
