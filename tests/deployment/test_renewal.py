"""Certificates are renewed before they end: by nodes, by users, and by the server itself.

Servers are real and speak TLS. What is old was signed by an authority whose clock stood earlier.
"""

import asyncio
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from local_deployment import LocalDeployment, until
from prometheus_client import generate_latest
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
    join,
)
from umbel.deployment.authority import AUTHORITY_VALID_DAYS
from umbel.deployment.certificates import make_request, new_key, valid_until
from umbel.deployment.loopthread import LoopThread
from umbel.deployment.node import run_node
from umbel.deployment.server.certificate import ServerCertificate
from umbel.deployment.server.metrics import plane_registry
from umbel.deployment.server.server import Server
from umbel.deployment.server.settings import renewed_in_time
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import EnrolmentStub

DAY = 86_400.0
NOW = SYSTEM_CLOCK.now()
SCENARIOS = Path(__file__).parent / "apps" / "scenarios"


@dataclass
class Here:
    """A server in this process."""

    server: Server
    data: Path

    @property
    def address(self) -> str:
        return f"localhost:{self.server.port}"

    def joined(self, folder: Path, role="node", name=None) -> Identity:
        token = create_token(
            Authority.load(self.data / "authority"), role, [self.address], 60, name
        )
        return join(token, folder, name or "somebody")


@contextmanager
def serving(data: Path, clock=SYSTEM_CLOCK, **changes):
    settings = ServerSettings(data, port=0, certificate_days=90).with_keys()
    authority = Authority.load(data / "authority", clock=clock)
    server = Server(replace(settings, authority=authority, **changes))
    with LoopThread() as loop:
        loop.call(server.start())
        try:
            yield Here(server, data)
        finally:
            loop.call(server.close())


@pytest.fixture
def data(tmp_path) -> Path:
    authority = Authority.create(tmp_path / "server" / "authority", "test")
    authority.server_certificate(["localhost"], 365).save(tmp_path / "server" / "identity")
    return tmp_path / "server"


@pytest.fixture
def here(data):
    with serving(data) as server:
        yield server


def aged(data: Path, folder: Path, ago: float = 300, days: float = 365) -> Identity:
    """Give the identity in a folder a certificate from so many days ago."""
    authority = Authority.load(data / "authority", clock=VirtualClock(NOW - ago * DAY))
    own = Identity.load(folder)
    if folder.parent == data:
        certificate = authority.server_renewal(own, days)
    else:
        certificate = authority.sign_request(make_request(own.key_pem), own.principal, days)
    (folder / "cert.pem").write_bytes(certificate)
    return Identity.load(folder)


def days_left(identity: Identity) -> float:
    return (identity.valid_until - SYSTEM_CLOCK.now()) / DAY


@contextmanager
def enrolment(here, identity: Identity):
    peer = Peer(here, identity)
    yield EnrolmentStub(peer._channel).Renew
    peer.close()


def request(key: bytes) -> wire.RenewRequest:
    return wire.RenewRequest(certificate_request=make_request(key))


class TestTheServerGivesANewOne:
    @pytest.mark.parametrize(
        ("role", "name", "who"),
        [("node", None, "node/0"), ("user", "alice", "user/alice"), ("admin", "eve", "admin/eve")],
    )
    def test_for_whom_the_old_one_speaks(self, here, tmp_path, role, name, who):
        own = here.joined(tmp_path / "own", role, name)
        for key in (own.key_pem, new_key()):
            with enrolment(here, own) as renew:
                reply = renew(request(key))
            own = Identity(key, reply.certificate, own.ca_pem)
            assert reply.principal == str(own.principal) == who
            assert days_left(own) == pytest.approx(90, abs=0.01)
        with enrolment(here, own) as renew:  # the last one is good as well
            renew(request(own.key_pem))

    def test_a_node_that_was_shut_out_gets_none_whatever_key_it_has(self, here, tmp_path):
        own = here.joined(tmp_path / "own")
        admin = Peer(here, here.joined(tmp_path / "admin", "admin", "me"))
        key = new_key()
        with enrolment(here, own) as renew:
            stolen = Identity(key, renew(request(key)).certificate, own.ca_pem)
            admin.runs.RevokeNode(wire.RevokeNodeRequest(node_id=0))
            refused("U406", renew, request(own.key_pem))
        admin.close()
        with enrolment(here, stolen) as renew:
            refused("U406", renew, request(key))
        peer = Peer(here, stolen)
        refused("U406", peer.connect().hear, "welcome")
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

    def test_a_certificate_for_another_key_is_not_taken(self, here, tmp_path):
        own, other = here.joined(tmp_path / "a"), here.joined(tmp_path / "b")
        with pytest.raises(ProtocolError, match="not for the key"):
            own.renew(tmp_path / "a", other.cert_pem)
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
            assert (
                str(here.joined(settings.identity_dir).principal) == "node/2"
            )  # beside a good one


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


def shown(here, client: Identity, folder: Path) -> float:
    """Return in how many days the certificate ends that the server shows."""
    (folder / "cert").write_bytes(client.cert_pem)
    (folder / "key").write_bytes(client.key_pem)
    tls = ssl.create_default_context(cadata=client.ca_pem.decode())
    tls.load_cert_chain(folder / "cert", folder / "key")
    tls.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", here.server.port), timeout=20) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        pem = ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True))
    return (valid_until(pem.encode()) - NOW) / DAY


class TestTheServersOwn:
    def test_is_renewed_at_the_start_even_if_it_has_ended(self, data, tmp_path):
        old = aged(data, data / "identity", 400)
        with serving(data) as here:
            client = here.joined(tmp_path / "own")
            assert shown(here, client, tmp_path) == pytest.approx(90, abs=0.01)
        assert Identity.load(data / "identity").key_pem == old.key_pem

    def test_is_renewed_while_it_runs_and_sessions_go_on(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr("umbel.deployment.server.certificate._CHECK_S", 0.01)
        with serving(data) as here:
            client = here.joined(tmp_path / "own")
            assert shown(here, client, tmp_path) == pytest.approx(365, abs=0.01)
            peer = Peer(here, client)
            session = peer.connect()
            session.hear("welcome")
            aged(data, data / "identity")
            until(lambda: shown(here, client, tmp_path) == pytest.approx(90, abs=0.01))
            with enrolment(here, client) as renew:  # on a new connection
                renew(request(client.key_pem))
            stranger = Authority.create(tmp_path / "stranger", "test")
            forged = stranger.sign_request(make_request(client.key_pem), client.principal, 1)
            with enrolment(here, replace(client, cert_pem=forged)) as renew:
                refused("U305", renew, request(client.key_pem))
            session.say(hello=wire.Hello())
            refused("U303", session.hear, "task")  # the stream of before is still heard
            session.close()
            peer.close()

    def test_of_the_owners_is_left_alone_and_spoken_of_once_a_day(self, data, tmp_path, caplog):
        folder = data / "identity"
        past = VirtualClock(NOW - 300 * DAY)
        other = Authority.create(tmp_path / "other", "their own", clock=past)
        other.server_certificate(["localhost"], 365).save(folder)
        own, authority = Identity.load(folder), Authority.load(data / "authority")
        assert renewed_in_time(folder, authority, 90, NOW) == own
        settings = ServerSettings(data).with_keys()
        watched = ServerCertificate(settings, own.credentials)
        for hours in (0, 1, 2, 24):
            watched._look(NOW + hours * 3600)
        assert caplog.text.count("the certificate of the server ends on") == 2
        assert "in 64 days" in caplog.text
        assert Identity.load(folder) == own

    def test_and_the_authority_are_spoken_of_before_they_end(self, data, caplog):
        settings = ServerSettings(data).with_keys()
        watched = ServerCertificate(settings, settings.credentials)
        watched._look(NOW)
        assert caplog.text == ""
        watched._look(valid_until(settings.authority.ca_pem) - 300 * DAY)
        assert "the certificate of the authority ends on" in caplog.text

    def test_stands_among_the_metrics(self, here):
        text = generate_latest(plane_registry(here.server.plane, here.server._certificate)).decode()
        assert 'umbel_certificate_end_seconds{of="server"}' in text
        assert 'umbel_certificate_end_seconds{of="authority"}' in text

    def test_cannot_be_renewed_by_an_authority_that_has_ended(self, data):
        aged(data, data / "identity")
        late = Authority.load(data / "authority", clock=VirtualClock(NOW + 3651 * DAY))
        with pytest.raises(ConfigError, match="the authority expired on"):
            renewed_in_time(data / "identity", late, 90, NOW)
