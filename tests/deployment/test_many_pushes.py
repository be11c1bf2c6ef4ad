"""Many who push at once: the server takes memory for some of them, and all are served."""

import asyncio
import re
import secrets
import sys
from pathlib import Path

import pytest
from local_deployment import LocalDeployment

from umbel.base import content_hash
from umbel.deployment.channel import open_channel
from umbel.deployment.chunks import ObjectsClient
from umbel.deployment.transfer import push
from umbel.deployment.wire import umbel_pb2 as wire

PUSHES, SIZE_BYTES = 250, 6_000_000
PEAK_BYTES = 700_000_000
"""Without a bound they are 1.2 GB, and twice as many for twice as many pushes."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it is read from /proc")
def test_memory_has_a_bound(tmp_path):
    body = secrets.token_bytes(SIZE_BYTES)

    async def push_one(here, number: int) -> None:
        parts = [body, number.to_bytes(2)]
        item = wire.Object(hash=content_hash(parts), size_bytes=SIZE_BYTES + 2)
        async with open_channel(here.address) as channel:
            await push(ObjectsClient(channel), item, parts)
        assert (here.data / "objects" / "objects" / item.hash[:2] / item.hash).exists()

    async def push_all(here) -> int:
        """Push all at once; return the most memory of its own that the server has had."""
        status = Path(f"/proc/{here.server.process.pid}/status")
        pushes = asyncio.gather(*(push_one(here, number) for number in range(PUSHES)))
        peak = 0
        while not pushes.done():
            await asyncio.wait([pushes], timeout=0.02)
            own = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())[1]
            peak = max(peak, int(own) * 1024)
        await pushes
        return peak

    with LocalDeployment(tmp_path / "here", insecure=True) as here:
        here.start_server()
        assert asyncio.run(push_all(here)) < PEAK_BYTES
