"""A node over real sockets, with a real worker process, against a server that follows a script."""

import asyncio
import errno
import os

import numpy as np
import pytest

from umbel.base import VersionMismatch, content_hash
from umbel.deployment.node.journal import Journal
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ErrorCode

pytestmark = pytest.mark.slow


def test_a_node_joins_works_and_keeps_its_state(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            hello = session.hello
            assert (hello.protocol_min, hello.capacity, list(hello.held)) == (1, 1, [])
            assert len(hello.secret) >= 32
            session.welcome(node_id=3)
            run = kit.run_info(seeded=True, seed=7)
            first = await session.answer_to(kit.train(server, run=run))
            again = await session.answer_to(kit.train(server, run=run))
            assert kit.metrics(server, first) == {
                "seen": 1,
                "node": 3,
                "lr": 0.5,
                "epochs": 2,
                "draw": kit.metrics(server, again)["draw"],
            }
            assert kit.metrics(server, again)["seen"] == 2
            moved = kit.content(server, again)["arrays"]["w"].numpy()
            np.testing.assert_array_equal(moved, np.arange(10) + 1)
            await events.wait("acknowledged", count=2)
            await events.wait("output", "the app is imported")
            assert sum(event.text == "the app is imported" for event in events) == 1
            assert len(server.objects.pulls) == 1  # both tasks carry the same model

    asyncio.run(main())


def test_a_large_reply_is_pushed_as_an_object_and_a_cut_goes_on_at_its_offset(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)):
            session = await server.session()
            session.welcome(compression=wire.COMPRESSION_ZSTD)
            task = kit.query("zeros", size=3_000_000)
            server.objects.cuts, server.objects.cut_after_bytes = 1, 1_000_000
            reply = await session.answer_to(task)
            (_, first), (name, second) = server.objects.pushes
            assert (first, second) == (0, 1024 * 1024)
            assert name == reply.body.hash
            assert kit.content(server, reply)["arrays"]["x"].shape == (3_000_000,)

    asyncio.run(main())


@pytest.mark.parametrize("compression", [wire.COMPRESSION_NONE, wire.COMPRESSION_ZSTD])
def test_a_cut_download_goes_on_at_its_offset(kit, compression):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)):
            server.objects.compression = compression
            session = await server.session()
            session.welcome(compression=compression)
            task = kit.train(server, size=1_000_000)
            server.objects.cuts, server.objects.cut_after_bytes = 1, 2 * 1024 * 1024
            reply = await session.answer_to(task)
            assert [offset for _, offset in server.objects.pulls] == [0, 2 * 1024 * 1024]
            assert kit.content(server, reply)["arrays"]["w"].numpy()[-1] == 1_000_000

    asyncio.run(main())


def test_a_body_that_is_not_what_it_is_named_by_is_refused(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)):
            session = await server.session()
            session.welcome()
            task = kit.train(server)
            good = server.objects.complete[task.body.hash]
            server.objects.complete[task.body.hash] = good[:-1] + b"!"
            reply = await session.answer_to(task)
            assert reply.failure.code == ErrorCode.MESSAGE_UNAVAILABLE
            assert reply.failure.kind == "ProtocolError"
            assert "do not have the hash" in reply.failure.reason
            server.objects.complete[task.body.hash] = good
            assert kit.metrics(server, await session.answer_to(kit.train(server)))["seen"] == 1

    asyncio.run(main())


def test_an_exception_leaves_the_node_without_its_traceback_and_changes_no_state(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            reply = await session.answer_to(kit.query("fail"))
            assert reply.failure.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
            assert reply.failure.kind == "ValueError"
            assert reply.failure.reason == "secret data is empty"
            await events.wait("output", "in fail")  # the traceback is in the node's own log
            assert kit.metrics(server, await session.answer_to(kit.train(server)))["seen"] == 1

    asyncio.run(main())


def test_a_worker_that_dies_three_times_is_a_crash_of_the_app(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            reply = await session.answer_to(kit.query("die"))
            assert reply.failure.code == ErrorCode.CLIENT_APP_CRASHED
            assert reply.failure.kind == "SIGKILL"
            assert len({event.pid for event in events if event.kind == "started"}) == 3
            assert kit.metrics(server, await session.answer_to(kit.train(server)))["seen"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("moments", [1, 2])
def test_a_task_whose_worker_is_killed_is_run_again_from_the_old_state(kit, tmp_path, moments):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            task = kit.query("wait", pipe=str(pipe))
            session.send(task=task)
            await session.receive("accepted")
            for moment in range(1, moments + 1):
                await events.wait("output", "waiting", count=moment)
                os.kill((await events.wait("started", count=moment)).pid, 9)
            await events.wait("output", "waiting", count=moments + 1)
            os.close(os.open(pipe, os.O_WRONLY))
            reply = await session.receive("reply")
            assert kit.metrics(server, reply) == {"seen": 1}

    asyncio.run(main())


def test_a_task_that_comes_twice_is_run_once(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)):
            session = await server.session()
            session.welcome()
            task = kit.train(server)
            session.send(task=task)
            session.send(task=task)
            names = [(await session.receive("accepted")).message_id for _ in range(2)]
            assert names == [task.message_id] * 2
            assert kit.metrics(server, await session.receive("reply"))["seen"] == 1
            session.send(task=task)  # done, but not acknowledged: the same reply again
            await session.receive("accepted")
            assert kit.metrics(server, await session.receive("reply"))["seen"] == 1
            session.send(ack=wire.Ack(message_id=task.message_id))
            assert kit.metrics(server, await session.answer_to(kit.train(server)))["seen"] == 2

    asyncio.run(main())


def test_a_cancelled_task_stops_and_leaves_no_trace(kit, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            task = kit.query("wait", pipe=str(pipe))
            session.send(task=task)
            await session.receive("accepted")
            await events.wait("output", "waiting")
            session.send(cancel=wire.Cancel(message_id=task.message_id))
            await events.wait("cancelled")
            reply = await session.answer_to(kit.train(server))
            assert kit.metrics(server, reply)["seen"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("final", [True, False])
def test_of_a_run_that_is_over_the_state_is_kept_if_it_may_be_resumed(kit, final):
    async def main():
        async with kit.listening() as server:
            settings = kit.settings(server)
            async with kit.node(settings) as events:
                session = await server.session()
                session.welcome()
                await session.answer_to(kit.train(server))
                pid = (await events.wait("started")).pid
                session.send(run_over=wire.RunOver(run_id="run-1", final=final))
                await events.wait("run_over")
                left = list((settings.data_dir / "runs").rglob("*"))
                assert [path.name for path in left] == ([] if final else ["run-1", "state"])
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)
                reply = await session.answer_to(kit.train(server))
                assert kit.metrics(server, reply)["seen"] == (1 if final else 2)

    asyncio.run(main())


def test_runs_take_turns_with_the_workers_and_keep_their_own_state(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            seen = []
            for run_id in ("one", "two", "one"):
                task = kit.train(server, run=kit.run_info(run_id))
                seen.append(kit.metrics(server, await session.answer_to(task))["seen"])
            assert seen == [1, 1, 2]
            first, second, third = (event.pid for event in events if event.kind == "started")
            assert len({first, second, third}) == 3  # one worker at a time for one task at a time
            with pytest.raises(ProcessLookupError):
                os.kill(first, 0)

    asyncio.run(main())


def test_a_server_that_comes_back_gets_what_was_computed_meanwhile(kit, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            task = kit.query("wait", pipe=str(pipe))
            session.send(task=task)
            await session.receive("accepted")
            await events.wait("output", "waiting")
            await server.stop()
            assert "trying again" in (await events.wait("disconnected")).text
            os.close(os.open(pipe, os.O_WRONLY))
            await events.wait("finished")
            await server.start()
            session = await server.session()
            assert list(session.hello.held) == [task.message_id]
            session.welcome()
            assert kit.metrics(server, await session.receive("reply")) == {"seen": 1}
            session.send(ack=wire.Ack(message_id=task.message_id))
            await events.wait("acknowledged")

    asyncio.run(main())


def test_a_download_that_the_server_interrupts_by_going_away_goes_on_when_it_is_back(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            task = kit.train(server)
            server.objects.cuts = 1_000_000
            session.send(task=task)
            await session.receive("accepted")
            await server.objects.begun.wait()
            await server.stop()
            await events.wait("disconnected")
            server.objects.cuts = 0
            await server.start()
            session = await server.session()
            assert list(session.hello.held) == [task.message_id]
            session.welcome()
            assert kit.metrics(server, await session.receive("reply"))["seen"] == 1

    asyncio.run(main())


@pytest.mark.parametrize(("protocol", "side"), [(9, "upgrade the node"), (0, "upgrade the server")])
def test_a_node_says_which_side_is_to_be_upgraded(kit, protocol, side):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome(protocol=protocol, software="umbel/9.0")
            assert side in (await events.wait("disconnected")).text

    asyncio.run(main())


def test_why_a_server_refuses_a_node_is_said(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.refuse(VersionMismatch("it is too old", hint="upgrade the node"))
            text = (await events.wait("disconnected")).text
            assert text.startswith("[U304] it is too old. Hint: upgrade the node")

    asyncio.run(main())


def test_names_from_the_server_lead_out_of_no_folder(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            session.send(task=kit.query("fail", run=kit.run_info("../../tmp")))
            assert "U303" in (await events.wait("disconnected")).text

    asyncio.run(main())


def test_why_the_server_ends_a_session_is_told(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            session.send(goodbye=wire.Goodbye(reason="this node was revoked"))
            assert "this node was revoked" in (await events.wait("disconnected")).text

    asyncio.run(main())


def test_an_object_is_named_by_its_content(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)):
            session = await server.session()
            session.welcome()
            reply = await session.answer_to(kit.query("zeros", size=100_000))
            assert content_hash([server.objects.complete[reply.body.hash]]) == reply.body.hash

    asyncio.run(main())


def test_a_full_disk_is_a_failure_of_the_task(kit, monkeypatch):
    def full(journal, outcome):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)) as events:
            session = await server.session()
            session.welcome()
            with monkeypatch.context() as patched:
                patched.setattr(Journal, "commit", full)
                reply = await session.answer_to(kit.train(server))
                assert "No space left on device" in reply.failure.reason
                await events.wait("failed", "No space left on device")
            again = await session.answer_to(kit.train(server))
            assert kit.metrics(server, again)["seen"] == 1

    asyncio.run(main())
