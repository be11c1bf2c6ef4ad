"""Certificates are renewed before they end: those of nodes and of users.

Servers are real and speak TLS. What is old was signed by an authority whose clock stood earlier.
"""

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from local_deployment import LocalDeployment
from renewing import DAY, NOW, aged, days_left, enrolment, init_server, request, serving
from typer.testing import CliRunner
from wire_peers import Peer, refused

from umbel.base import SYSTEM_CLOCK, ConfigError, NotAuthenticated, ProtocolError, VirtualClock
from umbel.cli import app
from umbel.deployment import (
    Authority,
    Connection,
    Connections,
    Identity,
    NodeSettings,
    ServerSettings,
    UserClient,
    create_token,
)
from umbel.deployment.authority import AUTHORITY_VALID_DAYS
from umbel.deployment.certificates import Principal, make_request, new_key
from umbel.deployment.node import run_node
from umbel.deployment.wire import umbel_pb2 as wire

SCENARIOS = Path(__file__).parent / "apps" / "scenarios"


class TestTheServerGivesANewOne:
    @pytest.mark.parametrize(
        ("role", "name", "who"),
        [("node", None, "node/0"), ("user", "alice", "user/alice"), ("admin", "eve", "admin/eve")],
    )
    def test_for_whom_the_old_one_speaks(self, here, tmp_path, role, name, who):
        own = here.joined(tmp_path / "own", role, name)
        with enrolment(here, own) as renew:
            reply = renew(request(own.key_pem))
            assert "another key" in refused("U402", renew, request(new_key()))
        own = replace(own, cert_pem=reply.certificate)
        assert reply.principal == str(own.principal) == who
        assert days_left(own) == pytest.approx(90, abs=0.01)
        with enrolment(here, own) as renew:  # the new one is good as well
            renew(request(own.key_pem))

    def test_a_node_that_was_shut_out_gets_none(self, here, tmp_path):
        own = here.joined(tmp_path / "own")
        admin = Peer(here, here.joined(tmp_path / "admin", "admin", "me"))
        with enrolment(here, own) as renew:
            renewed = replace(own, cert_pem=renew(request(own.key_pem)).certificate)
            admin.runs.RevokeNode(wire.RevokeNodeRequest(node_id=0))
            refused("U406", renew, request(own.key_pem))
        admin.close()
        peer = Peer(here, renewed)
        refused("U406", peer.connect().hear, "welcome")
        peer.close()

    def test_a_node_whose_number_is_anothers_stays_out(self, here, tmp_path):
        here.joined(tmp_path / "own")
        authority = Authority.load(here.data / "authority")
        key = new_key()
        who = Principal("node", "0")
        signed = authority.sign_request(make_request(key), who, 90)
        peer = Peer(here, Identity(key, signed, authority.ca_pem))
        assert "another node has this number" in refused("U401", peer.connect().hear, "welcome")
        peer.close()

    def test_a_user_who_was_shut_out_gets_none(self, data, tmp_path):
        with serving(data, revoked=("user/alice",)) as here:
            alice = here.joined(tmp_path / "alice", "user", "alice")
            admin = here.joined(tmp_path / "admin", "admin", "alice")
            with enrolment(here, alice) as renew, enrolment(here, admin) as renew_admin:
                renew_admin(request(admin.key_pem))
                assert "user/alice was shut out" in refused("U406", renew, request(alice.key_pem))
        with pytest.raises(ConfigError, match="no role 'alice'"):
            ServerSettings(data, revoked=("alice",))

    def test_not_for_a_token(self, here):
        authority = Authority.load(here.data / "authority")
        token = create_token(authority, "node", [here.address], 60)
        bearer = Identity(token.key_pem, token.cert_pem, token.ca_pem)
        with enrolment(here, bearer) as renew:
            refused("U402", renew, request(new_key()))

    def test_not_without_a_request(self, here, tmp_path):
        with enrolment(here, here.joined(tmp_path / "own")) as renew:
            refused("U303", renew, wire.RenewRequest(certificate_request=b"please"))

    def test_not_for_one_that_ended(self, here, tmp_path):
        here.joined(tmp_path / "own")
        with enrolment(here, aged(here.data, tmp_path / "own", 100, 99)) as renew:
            refused("U305", renew, request(new_key()))

    def test_not_for_one_that_ended_while_it_was_connected(self, here, tmp_path):
        own = here.joined(tmp_path / "own")
        with enrolment(here, own) as renew:
            renew(request(own.key_pem))
            here.server.plane.clock = VirtualClock(NOW + 91 * DAY)
            refused("U401", renew, request(own.key_pem))


class TestOnDisk:
    def test_it_is_time_when_a_third_is_left(self, data):
        own = aged(data, data / "identity", ago=0, days=90)
        assert own.renew_at == pytest.approx(NOW + 60 * DAY, abs=600)
        assert own.end_text(NOW + 80 * DAY).endswith("in 10.0 days")

    def test_a_certificate_for_another_key_or_name_is_not_taken(self, here, tmp_path):
        own, other = here.joined(tmp_path / "a"), here.joined(tmp_path / "b")
        authority = Authority.load(here.data / "authority")
        anothers = authority.sign_request(make_request(own.key_pem), other.principal, 90)
        for certificate in (other.cert_pem, anothers):
            with pytest.raises(ProtocolError, match="another key or other names"):
                own.renew(tmp_path / "a", certificate)
        assert Identity.load(tmp_path / "a") == own

    def test_what_another_process_has_put_there_stays(self, here, tmp_path):
        own = here.joined(tmp_path / "own")
        faster = aged(here.data, tmp_path / "own")
        assert own.renew(tmp_path / "own", own.cert_pem) == faster
        assert Identity.load(tmp_path / "own") == faster

    @pytest.mark.slow
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_kill_leaves_the_old_one_or_the_new_one(self, here, tmp_path, request, moment):
        folder = tmp_path / "own"
        new = here.joined(folder)
        old = aged(here.data, folder)
        (tmp_path / "new.pem").write_bytes(new.cert_pem)
        code = (
            "import os, signal, sys\n"
            "from umbel.deployment import Identity\n"
            "rename, folder = os.replace, sys.argv[1]\n"
            "def killed(source, target):\n"
            f"    {moment!r} == 'after' and rename(source, target)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "os.replace = killed\n"
            "Identity.load(folder).renew(folder, open(sys.argv[2], 'rb').read())\n"
        )
        source = str(Path(request.config.rootpath) / "src")
        command = [sys.executable, "-c", code, str(folder), str(tmp_path / "new.pem")]
        done = subprocess.run(command, env={"PYTHONPATH": source}, check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        assert Identity.load(folder) == (old if moment == "before" else new)
        Identity.load(folder).renew(folder, new.cert_pem)
        assert Identity.load(folder) == new


def events_until(settings: NodeSettings, text: str, count: int) -> list[str]:
    """Be a node until it has said something so many times; return all that it said."""
    said: list[str] = []

    async def be() -> None:
        leave = asyncio.Event()

        def hear(event) -> None:
            said.append(f"{event.kind}: {event.text}")
            if sum(text in each for each in said) >= count:
                leave.set()

        async with asyncio.timeout(20):
            await run_node(settings, hear, leave)

    asyncio.run(be())
    return said


class TestANode:
    @pytest.fixture
    def settings(self, data, tmp_path, monkeypatch):
        """A node that has joined, and looks at its certificate all the time."""
        monkeypatch.setattr("umbel.deployment.node.renewal._CHECK_S", 0.01)
        folder = tmp_path / "node"
        with serving(data) as here:
            here.joined(folder / "identity")
        return NodeSettings("localhost:1", folder, identity_dir=folder / "identity")

    def be(self, here, settings, text, count=1) -> list[str]:
        return events_until(replace(settings, address=here.address), text, count)

    def test_renews_when_it_connects(self, data, settings):
        old = aged(data, settings.identity_dir)
        with serving(data) as here:
            said = self.be(here, settings, "certificate: renewed")
            new = Identity.load(settings.identity_dir)
            with enrolment(here, new) as renew:
                renew(request(new.key_pem))
        assert (new.key_pem, new.principal) == (old.key_pem, old.principal)
        assert days_left(new) == pytest.approx(90, abs=0.01)
        assert f"certificate: renewed: {new.end_text(SYSTEM_CLOCK.now())}" in said

    def test_does_not_renew_before_it_is_time(self, data, settings):
        before = aged(data, settings.identity_dir, ago=200)
        with serving(data) as here:
            said = self.be(here, settings, "connected: ")
        assert not any("certificate" in each for each in said)
        assert Identity.load(settings.identity_dir) == before

    def test_renews_again_and_again_in_one_session(self, data, settings):
        aged(data, settings.identity_dir)
        with serving(data, certificate_days=1e-4) as here:
            said = self.be(here, settings, "certificate: renewed", 3)
        assert sum(each.startswith("connected:") for each in said) == 1

    def test_says_what_went_wrong_and_tries_again(self, data, settings):
        old = aged(data, settings.identity_dir)
        late = VirtualClock(NOW + (AUTHORITY_VALID_DAYS + 1) * DAY)
        with serving(data, late) as here:
            said = self.be(here, settings, "was not renewed", 2)
        failure = next(each for each in said if "was not renewed" in each)
        assert f"certificate: {old.end_text(NOW)}, and was not renewed" in failure
        assert "the authority expired" in failure
        assert sum(each.startswith("connected:") for each in said) == 1
        assert Identity.load(settings.identity_dir) == old

    def test_that_came_too_late_says_what_to_do(self, data, settings):
        aged(data, settings.identity_dir, 400)
        said = events_until(settings, "disconnected", 1)
        assert any("the certificate expired on" in each and "umbel token" in each for each in said)

    def test_that_came_too_late_joins_again_and_keeps_its_number(self, data, settings, tmp_path):
        with serving(data) as here:
            here.joined(tmp_path / "another")
            old = aged(data, settings.identity_dir, 400)
            new = here.joined(settings.identity_dir)
            assert (new.key_pem, str(new.principal)) == (old.key_pem, "node/0")
            beside_a_good_one = here.joined(settings.identity_dir)
            assert str(beside_a_good_one.principal) == "node/2"

    def test_keeps_its_number_when_the_server_has_a_new_authority(self, data, settings, tmp_path):
        for part in ("authority", "identity"):
            (data / part).rename(tmp_path / part)
        init_server(data)
        with serving(data) as here:
            new = here.joined(settings.identity_dir)
            assert str(new.principal) == "node/0"
            assert new.ca_pem == (data / "authority" / "ca.pem").read_bytes()
            self.be(here, settings, "connected: connected")


@pytest.mark.slow
def test_a_node_renews_while_it_works(tmp_path):
    with LocalDeployment(tmp_path) as here:
        here.start_server("--certificate-days", "30")
        here.start_node(0, "--trust-any").kill()
        old = aged(here.data, tmp_path / "node-0" / "identity")
        program = here.start_node(0)
        program.wait_for(r'"event": ?"certificate", "text": ?"renewed')
        new = Identity.load(tmp_path / "node-0" / "identity")
        assert (new.key_pem, days_left(new)) == (old.key_pem, pytest.approx(30, abs=0.1))
        here.connect().close()
        options = ["-c", "scenario=plain", "-c", "nodes=1", "-c", "num-rounds=2"]
        for _ in range(2):
            told = here.umbel("run", SCENARIOS, "--on", "local", "--stream", "--json", *options)
            assert (told["status"], told["failures"]) == ("succeeded", 0)
            assert not any("disconnected" in line for line in here.nodes[0].lines)
            here.nodes[0].kill()
            here.start_node(0)  # with the new one
        aged(here.data, tmp_path / "node-0" / "identity", 400)
        assert "the certificate expired on" in here.umbel(
            "node", "--data", tmp_path / "node-0", "--trust-any", status=1
        )


class TestAUser:
    @pytest.fixture
    def connection(self, data, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        folder = Connections().identity_dir("local")
        with serving(data) as here:
            here.joined(folder, "user", "alice")
        return Connection("local", "localhost:1", identity_dir=folder)

    def test_renews_at_use_without_a_word(self, data, connection, caplog):
        old = aged(data, connection.identity_dir)
        with serving(data) as here:
            connection = replace(connection, address=here.address)
            Connections().add(connection)
            told = CliRunner().invoke(app, ["ls", "--on", "local"])
            assert (told.exit_code, told.output, caplog.text) == (0, "No runs on local.\n", "")
            new = Identity.load(connection.identity_dir)
            assert (new.key_pem, days_left(new)) == (old.key_pem, pytest.approx(90, abs=0.01))
            with UserClient(connection) as client:
                assert client.runs() == []
        assert Identity.load(connection.identity_dir) == new

    def test_is_warned_and_served_while_the_old_one_holds(self, data, connection, caplog):
        old = aged(data, connection.identity_dir)
        late = VirtualClock(NOW + (AUTHORITY_VALID_DAYS + 1) * DAY)
        with (
            serving(data, late) as here,
            UserClient(replace(connection, address=here.address)) as client,
        ):
            assert client.runs() == []
        assert f"{old.end_text(NOW)}, and was not renewed" in caplog.text
        assert Identity.load(connection.identity_dir) == old

    def test_is_told_that_it_has_ended(self, data, connection):
        aged(data, connection.identity_dir, 400)
        with pytest.raises(NotAuthenticated, match=r"expired on .*umbel token create"):
            UserClient(connection)
