"""Effects wait for the journal, the loop does not; a journal that fails ends all."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from umbel.base import ConfigError
from umbel.coordinator import LaunchRun, NodeJoined
from umbel.deployment.server import journalling
from umbel.deployment.server.journalling import Journalling
from umbel.deployment.server.server import Server
from umbel.deployment.server.settings import ServerSettings
from umbel.store import MemoryJournal


class Slow(MemoryJournal):
    """Writes when it is let, and counts how often."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.writes = 0
        self.fails = False

    def append(self, entries):
        assert self.gate.acquire(timeout=10)
        if self.fails:
            raise ConfigError("the disk is full")
        self.writes += 1
        return super().append(entries)


class Work:
    def __init__(self, journal, *, fsync):
        self.done = []
        self.steps = 0
        self.journal = journal
        self.journalling = Journalling(
            journal,
            0,
            lambda: str(self.steps).encode(),
            self.done.append,
            lambda: None,
            fsync=fsync,
        )

    def step(self, durable=True):
        self.steps += 1
        effect = LaunchRun(str(self.steps))
        return self.journalling.add(b"%d" % self.steps if durable else None, [effect])

    def effects(self):
        return [int(effect.run) for effect in self.done]


def test_without_fsync_all_is_done_at_once():
    async def main():
        work = Work(MemoryJournal(), fsync=False)
        assert work.step().done()
        assert work.step(durable=False).done()
        assert work.effects() == [1, 2]
        assert list(work.journal.read()) == [(1, b"1")]

    asyncio.run(main())


def test_effects_wait_for_the_disk_and_steps_are_written_together():
    async def main():
        work = Work(Slow(), fsync=True)
        first = work.step()
        await asyncio.sleep(0)  # the first is being written
        others = [work.step(durable=number % 2 == 0) for number in range(10)]
        others[3].cancel()  # whoever waited for it is gone
        await asyncio.sleep(0)
        assert not first.done()
        assert work.effects() == []
        work.journal.gate.release()
        await first
        assert work.effects() == [1]
        assert not any(other.done() for other in others[4:])
        waiting = asyncio.create_task(work.journalling.settled())
        await asyncio.sleep(0)
        waiting.cancel()  # which ends the waiting, and not what is waited for
        await asyncio.wait({waiting})
        work.journal.gate.release()
        await work.journalling.settled()
        await others[-1]
        assert work.effects() == list(range(1, 12))
        assert work.journal.writes == 2
        assert work.step(durable=False).done()  # nothing to wait for

    asyncio.run(main())


def test_settled_waits_for_no_step_that_comes_later():
    async def main():
        work = Work(Slow(), fsync=True)
        work.step()
        await asyncio.sleep(0)
        work.step()
        settled = asyncio.create_task(work.journalling.settled())
        await asyncio.sleep(0)
        work.journal.gate.release()
        await asyncio.wait({settled}, timeout=0.02)  # the second is being written
        last = work.step()
        work.journal.gate.release()
        await settled
        assert work.effects() == [1, 2]
        work.journal.gate.release()
        await last

    asyncio.run(main())


def test_a_step_does_not_wait_for_what_other_threads_do():
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        pushed = threading.Event()
        pushing = loop.run_in_executor(None, pushed.wait, 10)
        work = Work(MemoryJournal(), fsync=True)
        await work.step()
        assert not pushing.done()
        pushed.set()
        await pushing

    asyncio.run(main())


def test_a_snapshot_is_of_what_was_written_by_then(monkeypatch):
    monkeypatch.setattr(journalling, "_SNAPSHOT_ENTRIES", 3)

    async def main():
        work = Work(Slow(), fsync=True)
        work.step()
        await asyncio.sleep(0)
        for _ in range(3):
            work.step()
        work.journal.gate.release(2)
        await work.journalling.settled()
        assert work.journal.latest_snapshot() == (4, b"4")
        work.journal.gate.release()
        await work.step()
        assert list(work.journal.read()) == [(5, b"5")]

    asyncio.run(main())


@pytest.mark.parametrize("fsync", [True, False])
def test_a_journal_that_fails_lets_nothing_happen(fsync):
    async def main():
        work = Work(Slow(), fsync=fsync)
        work.journal.fails = True
        work.journal.gate.release()
        if fsync:
            first = work.step()
            await asyncio.sleep(0)
            for waiting in (first, work.step()):
                with pytest.raises(ConfigError, match="full"):
                    await waiting
        else:
            with pytest.raises(ConfigError, match="full"):
                work.step()
        assert work.effects() == []
        assert isinstance(work.journalling.broken, ConfigError)
        with pytest.raises(ConfigError, match="full"):
            await work.journalling.settled()

    asyncio.run(main())


@pytest.mark.parametrize("fsync", [True, False])
def test_a_server_whose_journal_fails_ends(tmp_path, monkeypatch, fsync):
    def fail(entries):
        raise ConfigError("the disk is full")

    async def main():
        server = Server(ServerSettings(tmp_path, port=0, insecure=True, fsync=fsync))
        await server.start()
        monkeypatch.setattr(server._journal, "append", fail)
        answers = []

        async def wait_for_answer():
            with server.plane.awaiting(["m"]) as queue:
                answers.append(await queue.get())

        waiting = asyncio.create_task(wait_for_answer())
        await asyncio.sleep(0)
        try:
            for _ in range(2):  # the second is refused before it happens
                with pytest.raises(ConfigError, match="full"):
                    await server.plane.submit(NodeJoined(at=0.0, name="n", fingerprint="f"))
            with pytest.raises(ConfigError, match="full"):
                await asyncio.wait_for(server.serve(asyncio.Event()), 10)
            await asyncio.wait_for(waiting, 10)
            with pytest.raises(ConfigError, match="full"):
                server.plane.answer(*answers)
        finally:
            await server.close()

    asyncio.run(main())
