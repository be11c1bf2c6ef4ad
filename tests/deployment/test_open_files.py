"""A server that may open few files: what it says, whom it lets in, and that no other is harmed."""

import asyncio
import socket
import urllib.error
import urllib.request
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from light_nodes import answer
from local_deployment import LocalDeployment, Program

import umbel
from umbel.base import Overloaded, UmbelError, content_hash
from umbel.deployment.chunks import read_chunk
from umbel.deployment.node.connection import connected
from umbel.deployment.node.settings import NodeSettings
from umbel.deployment.transfer import push
from umbel.deployment.wire import umbel_pb2 as wire

pytestmark = pytest.mark.slow

FILES = 128
APP = Path(umbel.__file__).parents[2] / "benchmarks" / "cases" / "deployment"
PROGRAM = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES // 2}, {FILES}))
runpy.run_module("umbel.cli", run_name="__main__", alter_sys=True)
"""


class Limited(LocalDeployment):
    """A server that may open few files, half of them unless it raises its limit."""

    def start_server(self) -> Program:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.http_port = free.getsockname()[1]
        options = ["--data", str(self.data), "--insecure", "--port", "0"]
        options += ["--http-port", str(self.http_port)]
        program = ["-c", PROGRAM, "server", *options]
        self.server = Program(program, self.environment, self.folder)
        self.port = int(self.server.wait_for(r"umbel server on [^:]+:(\d+)")[1])
        self.connect().close()
        return self.server

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}") as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture
def here(tmp_path):
    with Limited(tmp_path / "here", insecure=True) as deployment:
        deployment.start_server()
        yield deployment


class Nodes:
    """Nodes without workers, each a connection."""

    def __init__(self, here: Limited) -> None:
        self._settings = NodeSettings(here.address, here.folder / "light", trust_any=True)
        self.connections: list = []
        self._stacks: list[AsyncExitStack] = []
        self._count = 0

    async def one_more(self) -> None:
        """Connect another one, which answers what it is sent."""
        self._count += 1
        async with AsyncExitStack() as stack:
            secret = content_hash([str(self._count).encode()]).encode()
            connection = await stack.enter_async_context(connected(self._settings, secret, []))
            work = asyncio.create_task(self._work(connection))
            stack.callback(work.cancel)
            self.connections.append(connection)
            self._stacks.append(stack.pop_all())

    async def fill(self) -> Overloaded:
        """Connect as many as are let in, and return what the next one hears."""
        while True:
            try:
                await self.one_more()
            except Overloaded as error:
                return error

    async def leave(self, count: int) -> None:
        for stack in self._stacks[:count]:
            await stack.aclose()
        del self._stacks[:count], self.connections[:count]

    async def _work(self, connection) -> None:
        async for message in connection.messages():
            if message.WhichOneof("kind") == "task":
                await answer(connection, message.task)


@asynccontextmanager
async def nodes_of(here: Limited):
    nodes = Nodes(here)
    try:
        yield nodes
    finally:
        await nodes.leave(len(nodes.connections))


async def push_and_pull(connection, data: bytes) -> None:
    item = wire.Object(hash=content_hash([data]), size_bytes=len(data))
    await push(connection.objects, item, [data])
    pull = connection.objects.pull(wire.PullRequest(object=item))
    assert b"".join([bytes(read_chunk(raw).data) async for raw in pull]) == data


def test_a_full_server_says_so_and_goes_on(here):
    here.server.wait_for(rf"INFO {FILES} files may be open: about \d+ nodes fit")
    assert here.get("/readyz") == (200, "ok\n")

    async def use():
        async with nodes_of(here) as nodes:
            refusal = await nodes.fill()
            assert refusal.code == "U306"
            assert f"of the {FILES} files" in refusal.message
            assert "ulimit -n" in refusal.hint
            count = len(nodes.connections)
            here.server.wait_for(rf"WARNING \d+ of at most {FILES} files .* more nodes fit; raise")
            here.server.wait_for(r"ERROR .* no more nodes are let in.*ulimit -n.*LimitNOFILE=")
            status, why = await asyncio.to_thread(here.get, "/readyz")
            assert (status, f"of the {FILES} files" in why) == (503, True)
            _, metrics = await asyncio.to_thread(here.get, "/metrics")
            assert f"process_max_fds {float(FILES)}" in metrics
            assert f"umbel_nodes_connected {float(count)}" in metrics

            settings = [f"--config=nodes={count}", "--config=rounds=2"]
            command = ("run", APP, "--on", "local", "--stream", *settings)
            await asyncio.to_thread(here.umbel, *command)
            await push_and_pull(nodes.connections[0], b"x" * 3_000_000)

            await nodes.leave(count // 2)
            left = len(nodes.connections)
            while len(nodes.connections) < left + 10:
                await nodes.fill()  # at once, or once the server has counted again

    asyncio.run(use())


def test_connections_that_use_up_all_files_harm_nothing(here):
    """Whoever only opens connections is not asked who he is: not even the reserve is left then."""

    async def use():
        async with nodes_of(here) as nodes:
            await nodes.one_more()
            (node,) = nodes.connections
            with ExitStack() as stack:
                for _ in range(2 * FILES):
                    stack.enter_context(socket.create_connection(("127.0.0.1", here.port)))
                here.server.wait_for(r"ERROR .* no more nodes are let in")
                with pytest.raises(UmbelError, match="open files"):
                    await push_and_pull(node, b"y" * 100_000)
            await push_and_pull(node, b"y" * 100_000)
            here.server.wait_for(r"INFO .* there is room again")
            while len(nodes.connections) < 10:
                await nodes.fill()
            command = ("run", APP, "--on", "local", "--stream", "--config=nodes=10")
            await asyncio.to_thread(here.umbel, *command)

    asyncio.run(use())
