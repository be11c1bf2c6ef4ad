"""What a server of a deployment refuses, each with an error of its own; and it lives on."""

import socket
import ssl
import struct
from pathlib import Path

import pytest
import zstandard
from local_deployment import LocalDeployment, until
from wire_peers import HELLO, Peer, Session, refused

from umbel.base import AppProject, Seeds, content_hash
from umbel.deployment import Authority, Identity, build_bundle, join
from umbel.deployment.certificates import Principal, make_request, new_key
from umbel.deployment.channel import open_blocking_channel
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import RunsStub
from umbel.records import decode
from umbel.serverapp import read_log

pytestmark = pytest.mark.slow

SCENARIOS = Path(__file__).parent / "apps" / "scenarios"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    with LocalDeployment(tmp_path_factory.mktemp("refusals")) as deployment:
        deployment.start_server()
        yield deployment


@pytest.fixture(scope="module")
def admin(here):
    with here.connect() as client:
        yield client


@pytest.fixture
def peer(here, tmp_path):
    """Return a function that lets somebody join; nodes are those of one test."""
    peers = []

    def make(role="node", name=None) -> Peer:
        identity = join(here.token(role, name), tmp_path / f"peer-{len(peers)}", name or "peer")
        peers.append(Peer(here, identity))
        return peers[-1]

    yield make
    for each in peers:
        each.close()


@pytest.fixture
def stranger(here):
    """Return a function that gives a peer some certificate, whoever signed it."""
    peers = []

    def make(authority: Authority, role: str, name: str) -> Peer:
        key = new_key()
        certificate = authority.sign_request(make_request(key), Principal(role, name), 1)
        ca = (here.data / "authority" / "ca.pem").read_bytes()
        peers.append(Peer(here, Identity(key, certificate, ca)))
        return peers[-1]

    yield make
    for each in peers:
        each.close()


@pytest.fixture(autouse=True)
def it_lives_on(here, admin):
    """After each of these tests the same process still serves."""
    said = len(here.server.lines)
    yield
    assert here.server.process.poll() is None
    assert admin.nodes() is not None
    told = "\n".join(here.server.lines[said:])
    assert "Traceback" not in told, told


class TestTheHandshake:
    def test_random_bytes(self, here):
        chance = Seeds(3).child("bytes").python()
        for size in (1, 100, 10_000, 300_000):
            with socket.create_connection(("127.0.0.1", here.port), timeout=20) as plain:
                try:
                    plain.sendall(chance.randbytes(size))
                    plain.shutdown(socket.SHUT_WR)
                    while plain.recv(65_536):
                        pass
                except OSError:
                    pass  # the server hung up, at whatever byte

    def test_random_bytes_under_tls(self, here, tmp_path):
        context = ssl.create_default_context(cafile=str(here.data / "authority" / "ca.pem"))
        key = join(here.token("node"), tmp_path / "fuzzer", "fuzzer")
        (tmp_path / "key").write_bytes(key.key_pem)
        (tmp_path / "cert").write_bytes(key.cert_pem)
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
        context.set_alpn_protocols(["h2"])
        chance = Seeds(4).child("bytes").python()
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        for start in (b"", preface, preface + b"\0\0\0\4\0\0\0\0\0"):
            with (
                socket.create_connection(("127.0.0.1", here.port), timeout=20) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
            ):
                try:
                    secure.sendall(start + chance.randbytes(20_000))
                    while secure.recv(65_536):
                        pass
                except (ConnectionError, ssl.SSLError):
                    pass

    @pytest.mark.parametrize(
        "first",
        [
            wire.FromNode(heartbeat=wire.Heartbeat()),
            wire.FromNode(),
            wire.FromNode(reply=wire.Reply(message_id="x", content=b"x")),
        ],
        ids=["a heartbeat", "nothing", "a reply"],
    )
    def test_a_stream_that_does_not_begin_with_hello(self, peer, first):
        session = Session(peer().node, first)
        assert "begins with Hello" in refused("U303", session.hear, "welcome")
        session.close()

    def test_a_second_hello(self, peer):
        session = peer().connect()
        session.hear("welcome")
        session.say(hello=wire.Hello(**HELLO))
        refused("U303", session.hear, "task")
        session.close()

    @pytest.mark.parametrize(("versions", "older"), [((2, 9), "server"), ((0, 0), "node")])
    def test_a_version_that_is_not_spoken(self, peer, versions, older):
        session = peer().connect(protocol_min=versions[0], protocol_max=versions[1])
        assert f"upgrade the {older}" in refused("U304", session.hear, "welcome")
        session.close()

    def test_codecs_of_which_the_server_has_none(self, peer):
        session = peer().connect(codecs=["json", "pickle"])
        said = refused("U303", session.hear, "welcome")
        assert "as json, pickle, the server as safetensors, cbor" in said
        assert "offer 'safetensors'" in said
        session.close()

    def test_the_first_codec_that_the_server_has_is_chosen(self, peer):
        session = peer().connect(codecs=["json", "cbor", "safetensors"])
        assert session.hear("welcome").codec == "cbor"
        session.close()

    def test_bytes_that_are_no_message(self, peer):
        garbled = peer()._channel.stream_stream(
            "/umbel.v1.Nodes/Connect", request_serializer=bytes, response_deserializer=bytes
        )
        chance = Seeds(5).child("hellos").python()
        for _ in range(20):
            call = garbled(iter([b"\xff" + chance.randbytes(chance.randrange(1, 200))]))
            assert "no message" in refused("U303", next, call)

    def test_a_message_beyond_all_bounds(self, peer):
        session = peer().connect(name="x" * 9_000_000)
        refused("U306", session.hear, "welcome")
        session.close()


class TestCertificates:
    def test_of_another_authority(self, stranger, tmp_path):
        forger = Authority.create(tmp_path / "forger", "test")
        refused("U305", stranger(forger, "admin", "me").runs.List, wire.ListRunsRequest())

    def test_none_at_all(self, here):
        channel = open_blocking_channel(here.address)
        refused("U305", RunsStub(channel).List, wire.ListRunsRequest(), timeout=20)
        channel.close()

    def test_of_a_node_that_never_joined(self, here, stranger):
        authority = Authority.load(here.data / "authority")
        refused("U307", stranger(authority, "node", "999").connect().hear, "welcome")

    def test_a_revoked_node_is_cut_off_and_stays_out(self, peer, admin):
        node = peer()
        session = node.connect()
        number = session.hear("welcome").node_id
        assert admin.revoke(number).status == "revoked"
        assert "revoked" in session.hear("goodbye").reason
        with pytest.raises(EOFError):
            session.hear("task")
        session.close()
        refused("U406", node.connect().hear, "welcome")
        refused("U406", node.push, b"more")
        refused("U406", node.pull, wire.Object(hash="0" * 64))


class TestRoles:
    def test_a_user_is_no_node(self, peer):
        refused("U402", peer("user", "alice").connect().hear, "welcome")

    def test_a_node_is_no_user(self, peer):
        runs = peer().runs
        for call, request in [
            (runs.Submit, wire.SubmitRequest()),
            (runs.List, wire.ListRunsRequest()),
            (runs.Stop, wire.RunRequest()),
            (runs.Resume, wire.RunRequest()),
            (runs.Remove, wire.RunRequest()),
            (runs.Files, wire.RunRequest()),
            (runs.ListNodes, wire.ListNodesRequest()),
            (runs.RevokeNode, wire.RevokeNodeRequest()),
            (runs.CreateToken, wire.CreateTokenRequest()),
        ]:
            refused("U402", call, request)
        refused("U402", lambda: next(runs.Watch(wire.WatchRequest())))

    def test_a_user_is_no_admin(self, peer):
        runs = peer("user", "bob").runs
        refused("U402", runs.RevokeNode, wire.RevokeNodeRequest())
        refused("U402", runs.CreateToken, wire.CreateTokenRequest(role="admin", name="bob"))

    def test_a_users_runs_are_not_for_others(self, admin, peer):
        run_id = submit(admin)
        bob = peer("user", "bob")
        assert list(bob.runs.List(wire.ListRunsRequest()).runs) == []
        for call in (bob.runs.Stop, bob.runs.Resume, bob.runs.Files, bob.runs.Remove):
            refused("U307", call, wire.RunRequest(run_id=run_id))
        refused("U307", lambda: next(bob.runs.Watch(wire.WatchRequest(run_id=run_id))))
        admin.stop(run_id)


class TestObjects:
    @pytest.fixture
    def tasks(self, peer, admin):
        """Two nodes with a task each, of a run of one round."""
        nodes = [peer(), peer()]
        sessions = [node.connect() for node in nodes]
        for session in sessions:
            session.node_id = session.hear("welcome").node_id
        self.run_id = submit(admin)
        yield [
            (node, session, session.hear("task"))
            for node, session in zip(nodes, sessions, strict=True)
        ]
        for session in sessions:
            session.close()

    def end_well(self, here, tasks):
        """Answer both tasks as one should; the run must succeed."""
        for node, (_, session, task) in enumerate(tasks):
            session.answer(task, node + 1.0)
        self.model = until(lambda: self._model(here))
        assert self.model["arrays"]["w"].numpy().tolist() == [1.5] * 4

    def _model(self, here):
        path = here.run_folder(self.run_id) / "model.safetensors"
        return decode(path.read_bytes()) if path.exists() else None

    def test_a_push_under_a_wrong_hash(self, here, tasks):
        node = tasks[0][0]
        text = refused("U303", node.push, b"these bytes", content_hash([b"other bytes"]))
        assert "do not have the hash" in text
        item = node.push(b"other bytes")  # the name is not spoilt
        assert item.size_bytes == 11
        self.end_well(here, tasks)

    def test_names_that_lead_elsewhere(self, here, tasks):
        node = tasks[0][0]
        for name in ("../../evil", "", "A" * 64, "0" * 63):
            refused("U303", node.push, b"data", name or "/")
            refused("U303", node.pull, wire.Object(hash=name))
        self.end_well(here, tasks)

    def test_more_bytes_than_said_and_gaps(self, here, tasks):
        node = tasks[0][0]
        item = wire.Object(hash="0" * 64, size_bytes=3)
        for chunk in (wire.Chunk(data=b"four"), wire.Chunk(offset=2, data=b"x")):
            refused("U303", node.objects.Push, iter([wire.PushChunk(object=item, chunk=chunk)]))
        self.end_well(here, tasks)

    def test_a_chunk_that_unpacks_to_gigabytes(self, here, tasks):
        node = tasks[0][0]
        bomb = zstandard.ZstdCompressor().compress(bytes(200_000_000))
        refused("U303", node.push, bomb, compression=wire.COMPRESSION_ZSTD)
        refused("U303", node.push, b"no frame", compression=wire.COMPRESSION_ZSTD)
        refused("U303", node.push, b"unknown", compression=77)
        self.end_well(here, tasks)

    def test_a_node_without_a_task_stores_nothing(self, peer):
        refused("U402", peer().push, b"unasked")

    def test_a_node_fetches_what_its_tasks_name_alone(self, here, tasks, admin, peer):
        (node, session, task), (other, _, _) = tasks
        assert node.pull(task.body) == other.pull(task.body)  # the model is for both
        assert node.pull(task.run.bundle)
        refused("U307", peer().pull, task.body)
        files = admin._runs.Files(wire.RunRequest(run_id=self.run_id)).files
        refused("U307", node.pull, files["log.jsonl"])
        session.answer(task, 1.0)
        session.hear("ack")
        refused("U307", node.pull, task.body)
        self.end_well(here, tasks)  # the second answer is acknowledged and dropped

    def test_a_node_answers_no_other_nodes_task(self, here, tasks):
        (node, session, _), (_, _, task) = tasks
        session.answer(task, 1000.0)
        assert "is not for node" in refused("U402", session.hear, "ack")
        # It is cut off, comes back, is sent its own task again, and the run is as it was.
        again = node.connect()
        tasks[0] = (node, again, again.hear("task"))
        self.end_well(here, tasks)
        again.close()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"not a safetensors file",
            struct.pack("<Q", 2**62) + b"{}",
            struct.pack("<Q", 100_000_000) + b"{}" + b" " * 1000,
            struct.pack("<Q", 2) + b"[]",
            struct.pack("<Q", 61)
            + b'{"w":{"dtype":"F32","shape":[9999999],"data_offsets":[0,4]}}    ',
        ],
        ids=["empty", "text", "header of 4 EiB", "header of 100 MB", "a list", "oversized body"],
    )
    def test_a_body_that_is_none_fails_its_node_alone(self, here, tasks, content):
        (node, session, task), (_, second, other) = tasks
        if content.startswith(b"not"):  # once as an object, else in the stream
            item = node.push(content)
            session.say(reply=wire.Reply(message_id=task.message_id, body=item))
        else:
            session.say(reply=wire.Reply(message_id=task.message_id, content=content))
        session.hear("ack")
        second.answer(other, 2.0)
        model = until(lambda: self._model(here))
        assert model["arrays"]["w"].numpy().tolist() == [2.0] * 4
        log = read_log(here.run_folder(self.run_id) / "log.jsonl")
        (failure,) = [entry.data for entry in log if entry.event == "failure"]
        assert (failure["node_id"], failure["kind"]) == (session.node_id, "ProtocolError")

    def test_an_object_of_no_bytes_fails_its_node_alone(self, here, tasks):
        (node, session, task), (_, second, other) = tasks
        item = node.push(b"")
        session.say(reply=wire.Reply(message_id=task.message_id, body=item))
        second.answer(other, 2.0)
        assert until(lambda: self._model(here))["arrays"]["w"].numpy().tolist() == [2.0] * 4

    def test_a_failure_of_an_unknown_kind(self, here, tasks):
        (_, session, task), (_, second, other) = tasks
        odd = wire.Failure(code=4_000_000_000, kind="\x00Odd[red]", reason="x" * 100_000)
        session.say(reply=wire.Reply(message_id=task.message_id, failure=odd))
        second.answer(other, 2.0)
        assert until(lambda: self._model(here))["arrays"]["w"].numpy().tolist() == [2.0] * 4

    def test_a_reply_without_its_object_or_too_large_for_the_stream(self, here, tasks):
        for reply in (
            wire.Reply(body=wire.Object(hash="1" * 64, size_bytes=9)),
            wire.Reply(content=bytes(65 * 1024)),
            wire.Reply(),
        ):
            node, session, task = tasks[0]
            reply.message_id = task.message_id
            session.say(reply=reply)
            refused("U303", session.hear, "ack")
            session.close()
            again = node.connect()
            tasks[0] = (node, again, again.hear("task"))
        self.end_well(here, tasks)
        again.close()


class TestApps:
    def test_a_bundle_with_a_path_that_leads_out(self, peer):
        user = peer("user", "eve")
        name = b"scenarios.py"
        bundle = build_bundle(SCENARIOS)
        assert name in bundle
        item = user.push(bundle.replace(name, b"../../evil.p"))
        request = wire.SubmitRequest(
            run=wire.RunInfo(bundle=item, client_app="a:b"), server_app="a:b"
        )
        refused("U107", user.runs.Submit, request)
        assert list(user.runs.List(wire.ListRunsRequest()).runs) == []

    def test_a_bundle_that_was_not_sent(self, peer):
        bundle = wire.Object(hash="2" * 64, size_bytes=9)
        request = wire.SubmitRequest(run=wire.RunInfo(bundle=bundle), server_app="a:b")
        refused("U307", peer("user", "eve").runs.Submit, request)


def submit(admin, **config):
    settings = {"scenario": "plain", "num-rounds": 1} | config
    project = AppProject.read(SCENARIOS).with_overrides([f"{k}={v}" for k, v in settings.items()])
    return admin.submit(project, seed=7, seeded=True).run_id
