"""The plane's watch over deadlines."""

import asyncio

import pytest

from umbel.base import SYSTEM_CLOCK
from umbel.coordinator import Limits
from umbel.deployment.server.plane import Plane
from umbel.store import MemoryJournal, ObjectStore


@pytest.mark.parametrize("steps", range(5))
def test_it_ends_when_it_is_told_whatever_happens_then(tmp_path, steps):
    async def main():
        ways = [lambda run: None] * 3
        plane = Plane(Limits(), MemoryJournal(), ObjectStore(tmp_path), SYSTEM_CLOCK, *ways)
        plane.begin()
        watch = asyncio.create_task(plane.keep_time())
        for _ in range(10):
            await asyncio.sleep(0)
        plane._changed.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        watch.cancel()
        _, pending = await asyncio.wait([watch], timeout=10)
        assert not pending
        assert watch.cancelled()

    asyncio.run(main())
