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
        taken = []
        with pytest.raises(Unreachable, match=r"no chunk came for 0\.01 s"):
            async for chunk in objects._in_time(stalling()):
                taken.append(chunk)
        assert taken == [b"first"]

    asyncio.run(take())
