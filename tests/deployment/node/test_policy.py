"""A policy in a real node, over real sockets: its apps, its budget, its restarts, its threads."""

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from umbel.clientapp import ClientApp, parse_policy
from umbel.deployment.bundle import (
    build_bundle,
    bundle_hash,
    new_signing_key,
    public_key,
    sign,
)
from umbel.records import ArrayRecord, ErrorCode, Message, MetricRecord, RecordDict

pytestmark = pytest.mark.slow

APP = Path(__file__).parent / "app"
BASE = 'contact = "dpo@clinic"\n[messages]\ntypes = ["train", "query.fail"]\n'
METRICS = "".join(f"[metrics.{name}]\n" for name in ("seen", "node", "lr", "epochs", "draw"))
BUDGET = (
    METRICS + '[arrays]\n[privacy]\ndata-set = "d"\nclip = 1.0\nnoise-multiplier = 8.0\n'
    "epsilon = 2.5\ndelta = 1e-6\n"
)
ENOUGH_FOR = 4


def refused_by(reply, rule):
    assert reply.failure.code == ErrorCode.POLICY_REFUSED, reply
    assert reply.failure.kind == "PolicyRefused"
    assert f"([{rule}])" in reply.failure.reason
    assert "dpo@clinic" in reply.failure.reason


async def answers(kit, settings, server, *tasks, **welcome):
    async with kit.node(settings) as events:
        session = await server.session()
        session.welcome(**welcome)
        replies = [await session.answer_to(task) for task in tasks]
        await events.wait("acknowledged", count=len(tasks))
        return replies


class TestApps:
    def reply(self, kit, policy, signature="", **settings):
        async def main():
            async with kit.listening() as server:
                data = build_bundle(APP)
                bundle = server.objects.add(data)
                run = kit.run_info(bundle=bundle, bundle_signature=signature, app_name="a lie")
                node = {"app": None, "policy": parse_policy(BASE + METRICS + "[arrays]\n" + policy)}
                made = kit.settings(server, **(node | settings))
                (reply,) = await answers(kit, made, server, kit.train(server, run=run))
                return reply

        return asyncio.run(main())

    def test_one_that_is_pinned_runs_whoever_signed_it(self, kit):
        pinned = f'[[apps]]\nname = "node-app"\nbundles = ["{bundle_hash(build_bundle(APP))}"]'
        assert not self.reply(kit, pinned).HasField("failure")

    def test_another_version_of_it_does_not(self, kit):
        pinned = f'[[apps]]\nname = "node-app"\nbundles = ["{"0" * 64}"]'
        refused_by(self.reply(kit, pinned, trust_any=True), "[apps]")

    def test_one_that_a_named_key_signed_runs_without_further_trust(self, kit):
        key = new_signing_key()
        rule = f'[[apps]]\nname = "node-app"\nsigners = ["{public_key(key)}"]'
        assert not self.reply(kit, rule, sign(build_bundle(APP), key)).HasField("failure")

    def test_one_that_another_key_signed_does_not_even_under_trust_any(self, kit):
        rule = f'[[apps]]\nname = "node-app"\nsigners = ["{public_key(new_signing_key())}"]'
        signature = sign(build_bundle(APP), new_signing_key())
        assert self.reply(kit, rule, signature).failure.kind == "BadSignature"
        refused_by(self.reply(kit, rule, signature, trust_any=True), "[apps]")
        refused_by(self.reply(kit, rule, trust_any=True), "[apps]")
        signed_else = '{"key": "' + rule.partition('["')[2].partition('"')[0] + '"}'
        refused_by(self.reply(kit, rule, signed_else, trust_any=True), "[apps]")

    def test_the_name_is_the_apps_own_and_not_what_the_run_calls_it(self, kit):
        refused_by(self.reply(kit, '[[apps]]\nname = "a lie"', trust_any=True), "[apps]")

    def test_the_nodes_own_app_is_held_to_it_too(self, kit):
        pinned = f'[[apps]]\nname = "node-app"\nbundles = ["{"0" * 64}"]'
        refused_by(self.reply(kit, pinned, app=APP), "[apps]")
        assert not self.reply(kit, '[[apps]]\nname = "node-app"', app=APP).HasField("failure")


def test_a_message_that_is_not_answered_is_not_fetched(kit):
    async def main():
        async with kit.listening() as server:
            task = kit.train(server)
            task.message_type = "query.raw"
            settings = kit.settings(server, policy=parse_policy(BASE))
            (reply,) = await answers(kit, settings, server, task)
            refused_by(reply, "messages.types")
            assert server.objects.pulls == []

    asyncio.run(main())


def test_a_reply_is_noised_and_its_state_kept(kit):
    async def main():
        async with kit.listening() as server:
            settings = kit.settings(server, policy=parse_policy(BASE + BUDGET))
            run = kit.run_info(seeded=True, seed=7)
            tasks = [kit.train(server, size=1000, run=run) for _ in range(2)]
            first, again = await answers(kit, settings, server, *tasks)
            assert kit.metrics(server, again)["seen"] == 2
            change = kit.content(server, first)["arrays"]["w"].numpy() - np.arange(1000)
            assert change.std() == pytest.approx(8.0, rel=0.2)
            assert kit.content(server, first)["arrays"] != kit.content(server, again)["arrays"]

    asyncio.run(main())


def test_an_exception_is_told_by_its_kind_and_its_output_not_at_all(kit):
    async def main():
        async with kit.listening() as server:
            settings = kit.settings(server, policy=parse_policy(BASE))
            async with kit.node(settings) as events:
                session = await server.session()
                session.welcome()
                reply = await session.answer_to(kit.query("fail"))
                assert (reply.failure.code, reply.failure.kind) == (2, "ValueError")
                assert "secret" not in reply.failure.reason
                assert "secret data is empty" in (await events.wait("withheld")).text
                assert "output" not in events.kinds()

    asyncio.run(main())


def test_the_owner_may_see_what_apps_print(kit):
    async def main():
        async with kit.listening() as server:
            policy = parse_policy(BASE + "[output]\nlog = true\n[errors]\ntell = 'text'")
            async with kit.node(kit.settings(server, policy=policy)) as events:
                session = await server.session()
                session.welcome()
                reply = await session.answer_to(kit.query("fail"))
                assert reply.failure.reason == "secret data is empty"
                await events.wait("output", "the app is imported")

    asyncio.run(main())


def test_a_budget_that_is_spent_stays_spent_after_kill_9(kit, tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text(BASE + BUDGET)

    async def main():
        async with kit.listening() as server:
            settings = kit.settings(server)
            spent, kills = 0, 0
            while True:
                async with kit.node_process(settings, "--policy", str(file)) as (process, events):
                    session = await server.session()
                    session.welcome()
                    task = kit.train(server)
                    session.send(task=task)
                    await session.receive("accepted")
                    reply = await session.receive("reply")
                    if reply.HasField("failure"):
                        refused_by(reply, "privacy.epsilon")
                        assert "started" not in events.kinds()  # the app was not even run
                        return spent, kills
                    spent += 1
                    # Killed before the server says that it has the reply: it comes once more.
                    process.send_signal(signal.SIGKILL)
                    await process.wait()
                    kills += 1
                async with kit.node_process(settings, "--policy", str(file)) as (_, events):
                    session = await server.session()
                    assert list(session.hello.held) == [task.message_id]
                    session.welcome()
                    assert (await session.receive("reply")).SerializeToString() == (
                        reply.SerializeToString()
                    )
                    session.send(ack={"message_id": task.message_id})
                    await events.wait("acknowledged")

    assert asyncio.run(main()) == (ENOUGH_FOR, ENOUGH_FOR)


def test_a_node_that_dies_while_the_app_works_spends_once(kit, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    file = tmp_path / "policy.toml"
    file.write_text(BASE.replace('"query.fail"', '"query.wait"') + "per-run = 1\n" + BUDGET)

    async def main():
        async with kit.listening() as server:
            settings = kit.settings(server)
            task = kit.query("wait", pipe=str(pipe))
            async with kit.node_process(settings, "--policy", str(file)) as (process, events):
                session = await server.session()
                session.welcome()
                session.send(task=task)
                await session.receive("accepted")
                await events.wait("started")
                process.send_signal(signal.SIGKILL)
                await process.wait()
            async with kit.node_process(settings, "--policy", str(file)) as (_, events):
                session = await server.session()
                session.welcome()
                session.send(task=task)
                await session.receive("accepted")
                await events.wait("started")
                os.close(os.open(pipe, os.O_WRONLY))
                # Counted once, though per-run is 1 and it was begun twice.
                assert kit.metrics(server, await session.receive("reply")) == {"seen": 1}

    asyncio.run(main())


def test_an_app_that_is_an_object_is_guarded_as_well(kit, tmp_path):
    app = ClientApp()

    @app.train()
    def train(message, context):
        arrays = ArrayRecord({"w": message.content["arrays"]["w"].numpy() + 1e6})
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    @app.query("fail")
    def fail(message, context):
        metrics = MetricRecord({"raw": 1950.0})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    async def main():
        async with kit.listening() as server:
            policy = parse_policy(BASE + BUDGET)
            settings = kit.settings(server, app=None, client_app=app, policy=policy)
            trained, failed = await answers(
                kit, settings, server, kit.train(server), kit.query("fail")
            )
            change = kit.content(server, trained)["arrays"]["w"].numpy() - np.arange(10)
            assert abs(change).max() < 100
            refused_by(failed, "metrics")

    asyncio.run(main())
