"""The format of contents at a node: offered, kept to, remembered with a reply."""

import asyncio

import pytest

from umbel.base import ConfigError
from umbel.clientapp import parse_policy
from umbel.deployment.node import NodeSettings
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ErrorCode, codec_of, decode

POLICY = """
contact = "dpo@clinic"
[messages]
types = ["train"]
[arrays]
[metrics.seen]
[metrics.node]
[metrics.lr]
[metrics.epochs]
[metrics.draw]
"""


def in_cbor(kit, server, size=10):
    """A task to train, all of it in CBOR."""
    task = kit.train(server, size)
    cbor = codec_of("cbor")
    arrays = decode(server.objects.complete[task.body.hash])
    task.body.CopyFrom(server.objects.add(b"".join(cbor.encode(arrays))))
    task.records = b"".join(cbor.encode(decode(task.records)))
    task.codec = "cbor"
    return task


def content(server, reply):
    data = reply.content or server.objects.complete[reply.body.hash]
    return codec_of(reply.codec).decode(data)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [None, POLICY], ids=["free", "guarded"])
def test_a_task_is_answered_in_its_own_codec(kit, policy):
    async def main():
        async with kit.listening() as server:
            rules = None if policy is None else parse_policy(policy)
            settings = kit.settings(server, codecs=("cbor", "safetensors"), policy=rules)
            async with kit.node(settings):
                session = await server.session()
                assert list(session.hello.codecs) == ["cbor", "safetensors"]
                session.welcome(codec="cbor")
                for size in (10, 100_000):
                    reply = await session.answer_to(in_cbor(kit, server, size))
                    assert reply.codec == "cbor"
                    moved = content(server, reply)["arrays"]["w"].numpy()
                    assert moved[-1] == size
                reply = await session.answer_to(kit.train(server))
                assert reply.codec == ""
                # The state is the node's own: it goes on whatever the codec.
                assert content(server, reply)["metrics"]["seen"] == 3

    asyncio.run(main())


@pytest.mark.slow
def test_a_kept_reply_is_in_the_codec_that_it_was_made_in(kit):
    async def main():
        async with kit.listening() as server:
            settings = kit.settings(server)
            async with kit.node_process(settings, "--codec", "cbor") as (process, _):
                session = await server.session()
                session.welcome(codec="cbor")
                task = in_cbor(kit, server)
                session.send(task=task)
                await session.receive("accepted")
                first = await session.receive("reply")
                process.kill()
                await process.wait()
            async with kit.node_process(settings):
                session = await server.session()
                assert list(session.hello.codecs) == ["safetensors"]
                session.welcome()
                again = await session.receive("reply")
                assert again == first
                assert again.codec == "cbor"
                assert content(server, again)["metrics"]["seen"] == 1

    asyncio.run(main())


@pytest.mark.slow
def test_a_task_in_a_codec_that_is_no_longer_offered_fails(kit):
    async def main():
        async with (
            kit.listening() as server,
            kit.node(kit.settings(server, codecs=("cbor",))),
        ):
            session = await server.session()
            session.welcome(codec="cbor")
            failure = (await session.answer_to(kit.train(server))).failure
            assert failure.code == ErrorCode.MESSAGE_UNAVAILABLE
            assert "reads 'safetensors', and this one reads cbor" in failure.reason
            assert server.objects.pulls == []
            assert (await session.answer_to(in_cbor(kit, server))).codec == "cbor"

    asyncio.run(main())


@pytest.mark.slow
def test_contents_that_are_not_what_they_are_said_to_be_fail(kit):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server)):
            session = await server.session()
            session.welcome()
            task = in_cbor(kit, server)
            task.codec = ""
            failure = (await session.answer_to(task)).failure
            assert (failure.code, failure.kind) == (3, "ProtocolError")

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize(("offered", "chosen"), [("cbor", ""), ("safetensors", "cbor")])
def test_a_server_that_chooses_what_was_not_offered_is_left(kit, offered, chosen):
    async def main():
        async with (
            kit.listening() as server,
            kit.node(kit.settings(server, codecs=(offered,))) as events,
        ):
            session = await server.session()
            session.welcome(codec=chosen)
            said = (await events.wait("disconnected")).text
            assert f"the codec {chosen or 'safetensors'!r}, and was offered {offered}" in said
            session.send(task=wire.Task(message_id="m"))
            await session.ended.wait()

    asyncio.run(main())


@pytest.mark.parametrize("codecs", [(), ("cbor", "json")])
def test_codecs_that_are_not_here_are_no_setting(tmp_path, codecs):
    with pytest.raises(ConfigError, match="codec"):
        NodeSettings("localhost:9200", tmp_path, codecs=codecs)
