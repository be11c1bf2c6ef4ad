"""The conformance kit: Umbel's own node passes, and each mistake of a small client is found."""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

from umbel.base import NotFound, ReplyTimeout, content_hash
from umbel.deployment import judge_client
from umbel.deployment.channel import open_channel
from umbel.deployment.conformance import CASES
from umbel.deployment.node import NodeSettings, run_node
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.deployment.wire.umbel_pb2_grpc import NodesStub, ObjectsStub
from umbel.records import ArrayRecord, ErrorCode, MetricRecord, RecordDict, decode, encode

APP = Path(__file__).parent / "app"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Client:
    """The least that is a client, and one mistake of its own."""

    def __init__(self, address, mistake=None):
        self.address, self.mistake = address, mistake
        self.secret = secrets.token_bytes(32)
        self.held = {}
        self.tasks = {}
        self.turn, self.sending = asyncio.Lock(), asyncio.Lock()

    async def live(self):
        while True:
            with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
                await self.session()
            await asyncio.sleep(0.02)  # its back-off

    async def session(self):
        if self.mistake == "is somebody else each time":
            self.secret = secrets.token_bytes(32)
        async with open_channel(self.address) as channel:
            self.call, self.objects = NodesStub(channel).Connect(), ObjectsStub(channel)
            hello = wire.Hello(
                protocol_min=1,
                protocol_max=1,
                software="small",
                secret=self.secret,
                capacity=1,
                held=[] if self.mistake == "forgets its replies" else list(self.held),
                codecs=["safetensors"],
            )
            await self.send(wire.FromNode(hello=hello))
            welcome = (await self.call.read()).welcome
            if welcome.protocol != 1 and self.mistake != "takes any version":
                return
            beat = asyncio.create_task(self.beat(welcome.heartbeat_s / 2))
            try:
                if self.mistake != "forgets its replies":
                    for reply in self.held.values():
                        await self.send(wire.FromNode(reply=reply))
                while (message := await self.call.read()) is not grpc.aio.EOF:
                    await self.take(message)
            finally:
                beat.cancel()

    async def send(self, message):
        async with self.sending:  # gRPC takes one message of a call at a time
            await self.call.write(message)

    async def beat(self, pause_s):
        while self.mistake != "has no heart":
            await asyncio.sleep(pause_s)
            await self.send(wire.FromNode(heartbeat=wire.Heartbeat()))

    async def take(self, message):
        match message.WhichOneof("kind"):
            case "task":
                name = message.task.message_id
                if name not in self.tasks or self.mistake == "answers twice":
                    self.tasks[name] = asyncio.create_task(self.answer(message.task))
                await self.send(wire.FromNode(accepted=wire.Accepted(message_id=name)))
            case "ack":
                self.held.pop(message.ack.message_id, None)
            case "cancel" if self.mistake != "hears no cancel":
                if message.cancel.message_id in self.tasks:
                    self.tasks[message.cancel.message_id].cancel()

    async def answer(self, task):
        async with self.turn:
            reply = wire.Reply(message_id=task.message_id)
            try:
                content = decode(task.records)
                if task.body.hash:
                    content["arrays"] = decode(await self.pull(task.body))["arrays"]
                reply.content = self.trained(content["arrays"])
            except ValueError as error:
                reply.failure.code = ErrorCode.MESSAGE_UNAVAILABLE
                reply.failure.kind, reply.failure.reason = "ValueError", str(error)
            self.held[task.message_id] = reply
            await self.send(wire.FromNode(reply=reply))

    def trained(self, arrays):
        moved = {name: array.numpy() + 1 for name, array in arrays.items()}
        if self.mistake == "knows no integers":
            moved = {
                n: a.astype(np.float32) if a.dtype.kind == "i" else a for n, a in moved.items()
            }
        # The reply to a large body is cut short: this client pushes nothing.
        small = {name: array for name, array in moved.items() if array.nbytes < 10_000}
        metrics = MetricRecord({"num-examples": 1})
        return b"".join(encode(RecordDict({"arrays": ArrayRecord(small), "metrics": metrics})))

    async def pull(self, item):
        data = b""
        while len(data) < item.size_bytes:
            with contextlib.suppress(grpc.RpcError):
                request = wire.PullRequest(object=item, offset=len(data))
                async for chunk in self.objects.Pull(request):
                    data += chunk.data
        if content_hash([data]) != item.hash and self.mistake != "believes everything":
            raise ValueError("not what it is named by")
        return data


async def ended(living):
    """End a client; gRPC may take a cancellation for one of its own, and go on."""
    while not living.done():
        living.cancel()
        await asyncio.wait({living}, timeout=1)


def judge(address, names, client, patience_s=20.0, codec="safetensors"):
    """Return the verdicts on a client, a coroutine, over the cases of these names."""

    async def main():
        living = asyncio.create_task(client())
        try:
            return await judge_client(
                address,
                names,
                patience_s=patience_s,
                wait_s=20.0,
                codec=codec,
                on_verdict=print,
            )
        finally:
            await ended(living)

    return {verdict.name: verdict.wrong for verdict in asyncio.run(main())}


@pytest.mark.slow
def test_umbels_own_node_passes_every_case(address, tmp_path):
    settings = NodeSettings(address=address, data_dir=tmp_path, app=APP)
    assert judge(address, [], lambda: run_node(settings)) == dict.fromkeys(
        [case.name for case in CASES], ""
    )


@pytest.mark.slow
def test_a_client_is_judged_in_the_codec_that_is_asked_for(address, tmp_path):
    settings = NodeSettings(address, tmp_path, app=APP, codecs=("cbor", "safetensors"))
    names = ["handshake", "inline", "body", "codec", "large", "resent"]
    verdicts = judge(address, names, lambda: run_node(settings), codec="cbor")
    assert verdicts == dict.fromkeys(names, "")


@pytest.mark.slow
def test_a_reply_in_another_codec_is_found(address):
    verdicts = judge(address, ["handshake", "failure"], Client(address).live, 2.0, codec="cbor")
    assert "without cbor" in verdicts["handshake"]


MISTAKES = {
    "is somebody else each time": ("handshake", "another secret"),
    "knows no integers": ("codec", "is float32 of shape"),
    "answers twice": ("duplicate", "it sent"),
    "hears no cancel": ("cancel", "sent no reply"),
    "believes everything": ("wrong-hash", "content, where a failure"),
    "takes any version": ("version-too-new", "sent accepted to a server of version 99"),
    "has no heart": ("heartbeat", "no heartbeat for"),
    "forgets its replies": ("resent", "lacks the reply"),
}


@pytest.mark.slow
def test_a_small_client_without_mistakes_passes_what_those_fail(address):
    names = [case for case, _ in MISTAKES.values()]
    verdicts = judge(address, names, Client(address).live)
    assert verdicts == dict.fromkeys(names, "")


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_its_case_and_no_other(address, mistake):
    case, wrong = MISTAKES[mistake]
    verdicts = judge(address, [case, "inline"], Client(address, mistake).live, patience_s=2.0)
    assert wrong in verdicts[case]
    assert verdicts["inline"] == ""


@pytest.mark.slow
def test_the_command_fails_when_a_case_does(address):
    async def main():
        words = ["--case", "inline", "--case", "handshake", "--listen", address, "--json"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "umbel.cli", "conformance", *words),
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=asyncio.subprocess.PIPE,
        )
        living = asyncio.create_task(Client(address, "is somebody else each time").live())
        out, _ = await process.communicate()
        await ended(living)
        return process.returncode, json.loads(out)

    status, said = asyncio.run(main())
    assert (status, said["success"]) == (1, False)
    found = [(verdict["case"], verdict["passed"]) for verdict in said["cases"]]
    assert found == [("inline", True), ("handshake", False)]


def test_a_case_that_does_not_exist_is_refused_before_anything_listens(address):
    with pytest.raises(NotFound, match="no case 'nothing'"):
        asyncio.run(judge_client(address, ["nothing"]))


def test_that_no_client_connects_is_said(address):
    with pytest.raises(ReplyTimeout, match=r"no node connected within 0\.01 s"):
        asyncio.run(judge_client(address, wait_s=0.01))
