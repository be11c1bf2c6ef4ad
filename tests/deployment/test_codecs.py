"""Nodes of one federation with different codecs: safetensors, CBOR, and one of somebody else's."""

import fcntl
import socket
import threading
from pathlib import Path

import pytest
from local_deployment import LocalDeployment, until
from wire_peers import Session

import umbel
from umbel.deployment.channel import open_blocking_channel
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import NodesStub
from umbel.records import Message, RecordDict, codec_of, decode
from umbel.serverapp import read_log

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart-numpy"
SCENARIOS = Path(__file__).parent / "apps" / "scenarios"
MODULE = """
import sys
from umbel.records import decode, encode

class Reversed:
    name = "reversed"
    def __init__(self):
        print("a codec of somebody else's is here", file=sys.stderr)
    def encode(self, content):
        return [b"".join(encode(content))[::-1]]
    def decode(self, buffer):
        return decode(bytes(buffer)[::-1])
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codecs")
    info = folder / "site" / "their_codec-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-codec\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[umbel.codecs]\nreversed = their_codec:Reversed\n")
    (folder / "site" / "their_codec.py").write_text(MODULE)
    with LocalDeployment(folder / "deployment") as deployment:
        deployment.environment["PYTHONPATH"] += f":{folder / 'site'}"
        deployment.start_server()
        for number, codec in enumerate(("safetensors", "cbor", "reversed")):
            options = ["--trust-any", "--set", "num-partitions=3", "--codec", codec]
            deployment.start_node(number, *options)
        deployment.connect().close()
        yield deployment


def run(here, app, *options):
    return here.umbel("run", app, "--seed", "7", "--json", *options)


def test_the_model_has_the_bits_of_the_simulation(here):
    simulated = run(here, EXAMPLE, "--nodes", "3")
    deployed = run(here, EXAMPLE, "--on", "local", "--stream")
    assert deployed["model_sha256"] == simulated["model_sha256"]
    assert deployed["metrics"] == simulated["metrics"]
    assert deployed["failures"] == 0
    # The server opens no content: those who do have loaded the codec.
    words = "a codec of somebody else's is here"
    output = here.run_folder(deployed["run-id"]) / "output.log"
    assert words in output.read_text()
    assert any(words in line for line in here.nodes[2].lines)
    assert not any(words in line for line in here.nodes[0].lines + here.server.lines)


def test_large_replies_and_loops_of_ones_own(here):
    options = ["--on", "local", "--stream", "-c", "nodes=3", "-c", "size=100000"]
    told = run(here, SCENARIOS, *options, "-c", "num-rounds=2")
    assert (told["status"], told["failures"]) == ("succeeded", 0)
    told = run(here, SCENARIOS, *options, "-c", "num-rounds=2", "-c", "scenario=loop")
    output = (here.run_folder(told["run-id"]) / "output.log").read_text()
    assert "the loop ends with [24.0, 24.0, 24.0, 24.0]" in output  # 0 -> 1 + 2 + 3, and again


def test_a_codec_that_is_not_installed_is_refused_before_anything_starts(here):
    said = here.umbel("node", here.address, "--insecure", "--codec", "json", status=2)
    assert "there is no codec 'json'; here are safetensors, cbor, reversed" in " ".join(
        said.split()
    )


def test_a_node_with_another_codec_meets_the_message_that_a_killed_server_app_had_sent(tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    with LocalDeployment(tmp_path / "here") as here:
        here.start_server()
        for number in range(2):
            here.start_node(number)
        here.connect().close()
        with gate.open() as held:  # round 2 waits for it
            fcntl.flock(held, fcntl.LOCK_EX)
            options = ["--on", "local", "-c", "num-rounds=3", "-c", "scenario=average"]
            options += ["-c", f"gate={gate}"]
            run_id = run(here, SCENARIOS, *options)["run-id"]
            for number in range(2):
                until(lambda n=number: sum('"accepted"' in it for it in here.nodes[n].lines) == 2)
            here.nodes[1].kill()
            here.server.child("umbel.deployment.server.child").kill()
            here.start_node(1, "--trust-any", "--codec", "cbor")
            here.nodes[1].wait_for('"event": "failed"')
        assert "succeeded" in here.umbel("log", run_id, "--on", "local", "--follow")
        log = list(read_log(here.run_folder(run_id) / "log.jsonl"))
        (failure,) = [entry.data for entry in log if entry.event == "failure"]
        assert (failure["node_id"], failure["kind"]) == (1, "ProtocolError")
        assert "made for a node that reads 'safetensors'" in failure["message"]
        model = decode((here.run_folder(run_id) / "model.safetensors").read_bytes())
        # 1 and 2, of which the mean is 1.5; 1 alone; and both again, one of them in CBOR.
        assert model["arrays"]["w"].numpy().tolist() == [4.0] * 4


def test_a_loop_that_asks_for_nodes_once_learns_of_another_codec_by_the_failure():
    asked, server = [], umbel.ServerApp()

    @server.main()
    def main(grid, context):
        threading.Thread(target=be_a_node, daemon=True).start()
        (node,) = grid.wait_for_nodes(1, 30)
        rounds = (grid.send_and_receive([Message(RecordDict(), node, "train")]) for _ in range(3))
        return [reply.has_content() for (reply,) in rounds]

    def answer(stub, offered, count):
        hello = {"protocol_min": 1, "protocol_max": 1, "capacity": 1, "secret": b"s" * 16}
        session = Session(stub, wire.FromNode(hello=wire.Hello(codecs=[offered], **hello)))
        for _ in range(count):
            task = session.hear("task")
            asked.append(task.codec)
            reply = wire.Reply(message_id=task.message_id, codec=task.codec)
            if (task.codec or "safetensors") == offered:
                reply.content = b"".join(codec_of(offered).encode(RecordDict()))
            else:
                reply.failure.code = 3
            session.say(reply=reply)
            session.hear("ack")
        session.close()

    def be_a_node():
        with open_blocking_channel(address) as channel:
            answer(NodesStub(channel), "cbor", 1)
            answer(NodesStub(channel), "safetensors", 2)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert umbel.start_server(address, server_app=server) == [True, False, True]
    assert asked == ["cbor", "cbor", ""]
