"""Which code a node runs is its owner's choice."""

import asyncio
from pathlib import Path

import pytest

from umbel.base import ConfigError
from umbel.deployment.bundle import build_bundle, new_signing_key, public_key, sign
from umbel.deployment.node import NodeSettings
from umbel.records import ErrorCode

APP = Path(__file__).parent / "app"


def failure_of(kit, run, **settings):
    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server, **settings)):
            session = await server.session()
            session.welcome()
            reply = await session.answer_to(kit.train(server, run=run(server)))
            assert len(server.objects.pulls) < 2
            return reply.failure

    return asyncio.run(main())


@pytest.mark.slow
def test_a_run_of_another_app_than_the_nodes_own_is_refused_and_its_bundle_not_fetched(kit):
    def run(server):
        bundle = server.objects.add(b"whatever")
        return kit.run_info(client_app="other:app", bundle=bundle, app_name="other")

    failure = failure_of(kit, run)
    assert failure.code == ErrorCode.INVALID_FAB
    assert "'other:app' of other, and this node has 'node_app:app'" in failure.reason


@pytest.mark.slow
def test_a_node_without_an_app_and_without_trust_runs_nothing(kit):
    failure = failure_of(kit, lambda server: kit.run_info(), app=None)
    assert failure.code == ErrorCode.INVALID_FAB
    assert "this node runs no apps" in failure.reason


@pytest.mark.slow
@pytest.mark.parametrize("signer", ["stranger", "nobody"])
def test_a_bundle_that_no_trusted_key_signed_is_refused(kit, signer):
    trusted = public_key(new_signing_key())

    def run(server):
        data = build_bundle(APP)
        signature = sign(data, new_signing_key()) if signer == "stranger" else ""
        return kit.run_info(bundle=server.objects.add(data), bundle_signature=signature)

    failure = failure_of(kit, run, app=None, trust=(trusted,))
    assert failure.code == ErrorCode.INVALID_FAB
    assert failure.kind == "BadSignature"


@pytest.mark.slow
@pytest.mark.parametrize("trust_any", [False, True])
def test_an_app_that_is_trusted_is_fetched_and_run(kit, trust_any):
    key = new_signing_key()
    trust = {"trust_any": True} if trust_any else {"trust": (public_key(key),)}

    async def main():
        async with kit.listening() as server:
            settings = kit.settings(server, app=None, **trust)
            async with kit.node(settings):
                session = await server.session()
                session.welcome()
                data = build_bundle(APP)
                signature = "" if trust_any else sign(data, key)
                bundle = server.objects.add(data)
                run = kit.run_info(bundle=bundle, bundle_signature=signature)
                reply = await session.answer_to(kit.train(server, run=run))
                assert kit.metrics(server, reply)["seen"] == 1
                assert (settings.data_dir / "apps" / bundle.hash / "node_app.py").exists()

    asyncio.run(main())


@pytest.mark.slow
def test_an_app_that_cannot_be_loaded_says_why(kit, tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text((APP / "pyproject.toml").read_text())
    (app / "node_app.py").write_text("import a_library_that_is_missing\n")
    failure = failure_of(kit, lambda server: kit.run_info(), app=app)
    assert failure.code == ErrorCode.LOAD_CLIENT_APP_EXCEPTION
    assert failure.kind == "AppLoadError"
    assert "a_library_that_is_missing" in failure.reason


@pytest.mark.slow
def test_an_app_of_flower_runs_as_it_is(kit, tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    project = (APP / "pyproject.toml").read_text()
    (app / "pyproject.toml").write_text(project.replace("tool.umbel", "tool.flwr"))
    code = (APP / "node_app.py").read_text()
    (app / "node_app.py").write_text(code.replace("umbel.clientapp", "flwr.clientapp"))

    async def main():
        async with kit.listening() as server, kit.node(kit.settings(server, app=app)):
            session = await server.session()
            session.welcome()
            assert kit.metrics(server, await session.answer_to(kit.train(server)))["seen"] == 1

    asyncio.run(main())


def test_own_app_and_trust_exclude_each_other(tmp_path):
    with pytest.raises(ConfigError, match="either its own app or what others sign"):
        NodeSettings("localhost:1", tmp_path, app=APP, trust_any=True)
