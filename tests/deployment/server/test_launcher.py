"""One process a run, in whatever order what happens to it reaches the journal."""

import asyncio
import threading

import pytest

from umbel.base import SYSTEM_CLOCK
from umbel.coordinator import Limits, NodeJoined, RunEnded, RunResumed, RunSubmitted
from umbel.deployment.server.launcher import Launcher
from umbel.deployment.server.plane import Plane
from umbel.deployment.server.serverapps import ServerAppsService
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.store import MemoryJournal, ObjectStore


class Idle(Launcher):
    """Its processes do nothing; `lives` names the run of each that is not ended."""

    def __init__(self, folder):
        super().__init__(folder / "s", folder, lambda run, reason: None)
        self.lives = []

    async def _run_once(self, run_id):
        self.lives.append(run_id)
        try:
            await asyncio.Event().wait()
        finally:
            self.lives.remove(run_id)


class Gated(MemoryJournal):
    """Writes when it is let."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Semaphore(0)

    def append(self, entries):
        assert self.gate.acquire(timeout=10)
        return super().append(entries)


def ignore(run_id):
    """Erase nothing."""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_that_is_resumed_before_its_end_is_on_the_disk_goes_on(tmp_path, stopped):
    async def main():
        launcher, journal, tasks = Idle(tmp_path), Gated(), []
        plane = Plane(
            Limits(),
            journal,
            ObjectStore(tmp_path / "objects"),
            SYSTEM_CLOCK,
            launcher.start,
            lambda run_id: tasks.append(asyncio.create_task(launcher.stop(run_id))),
            ignore,
            fsync=True,
        )
        service = ServerAppsService(plane, tmp_path, lambda run_id: tmp_path, launcher)
        journal.gate.release()
        await plane.submit(RunSubmitted(at=1.0, run="r", owner="u", spec=b""))
        plane.submit(NodeJoined(at=2.0, name="n", fingerprint="f"))  # the disk is busy with it
        await asyncio.sleep(0)
        if stopped:
            ended = plane.submit(RunEnded(at=3.0, run="r", status="stopped"))
        else:
            request = wire.EndRequest(run_id="r", status="failed")
            ended = asyncio.ensure_future(service.End(request, None))
            await asyncio.sleep(0)
        resumed = plane.submit(RunResumed(at=4.0, run="r"))
        journal.gate.release(2)
        await asyncio.gather(ended, resumed)
        await asyncio.gather(*tasks)
        for _ in range(5):
            await asyncio.sleep(0)
        assert launcher.lives == ["r"]
        await launcher.close()
        assert launcher.lives == []
        launcher.start("r")  # of a submission whose journalling went on meanwhile
        await asyncio.sleep(0)
        assert launcher.lives == []

    asyncio.run(main())
