"""A node as a process, killed at every step that can be seen from outside."""

import asyncio
import os
import signal

import psutil
import pytest

from umbel.deployment.wire import umbel_pb2 as wire

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("step", ["accepted", "waiting", "answering", "replied", "acknowledged"])
def test_a_killed_node_loses_no_reply_and_changes_its_state_once(kit, tmp_path, step):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def reach(session, events, task):
        """Bring the task to the step, and return whether the server has the reply for good."""
        session.send(task=task)
        await session.receive("accepted")
        if step == "accepted":
            return False
        await events.wait("output", "waiting")
        if step == "waiting":
            return False
        os.close(os.open(pipe, os.O_WRONLY))
        if step == "answering":
            return False
        await session.receive("reply")
        if step == "acknowledged":
            session.send(ack=wire.Ack(message_id=task.message_id))
        return step == "acknowledged"

    async def main():
        async with kit.listening() as server:
            settings = kit.settings(server)
            task = kit.query("wait", pipe=str(pipe))
            async with kit.node_process(settings) as (process, events):
                session = await server.session()
                session.welcome()
                assert kit.metrics(server, await session.answer_to(kit.train(server)))["seen"] == 1
                worker = psutil.Process((await events.wait("started")).pid)
                safe = await reach(session, events, task)
                process.kill()
                await process.wait()
                worker.wait(10)  # it ends with its agent
            async with kit.node_process(settings) as (_, events):
                session = await server.session()
                session.welcome()
                held = list(session.hello.held)
                if not safe:
                    if task.message_id not in held:
                        session.send(task=task)
                        await session.receive("accepted")
                        await events.wait("output", "waiting")
                        os.close(os.open(pipe, os.O_WRONLY))
                    reply = await session.receive("reply")
                    assert kit.metrics(server, reply) == {"seen": 2}
                    session.send(ack=wire.Ack(message_id=task.message_id))
                elif held:  # killed before it had read the acknowledgement
                    await session.receive("reply")
                    session.send(ack=wire.Ack(message_id=task.message_id))
                assert kit.metrics(server, await session.answer_to(kit.train(server)))["seen"] == 3

    asyncio.run(main())


def test_a_node_that_is_told_to_leave_finishes_its_task_first(kit, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def main():
        async with kit.listening() as server:
            async with kit.node_process(kit.settings(server)) as (process, events):
                session = await server.session()
                session.welcome()
                task = kit.query("wait", pipe=str(pipe))
                session.send(task=task)
                await session.receive("accepted")
                await events.wait("output", "waiting")
                process.send_signal(signal.SIGTERM)
                await events.wait("leaving")
                session.send(task=kit.train(server))  # too late: it stays with the server
                os.close(os.open(pipe, os.O_WRONLY))
                assert kit.metrics(server, await session.receive("reply")) == {"seen": 1}
                session.send(ack=wire.Ack(message_id=task.message_id))
                await session.ended.wait()
                assert await process.wait() == 0
            assert events.kinds()[-1] == "left"

    asyncio.run(main())


def test_an_idle_node_with_a_loaded_app_is_small(kit):
    async def main():
        async with (
            kit.listening() as server,
            kit.node_process(kit.settings(server)) as (process, events),
        ):
            session = await server.session()
            session.welcome()
            await session.answer_to(kit.train(server))
            pids = [process.pid, (await events.wait("started")).pid]
            rss = [psutil.Process(pid).memory_info().rss / 1e6 for pid in pids]
            print("RSS in MB:", rss)
            assert sum(rss) < 120

    asyncio.run(main())
