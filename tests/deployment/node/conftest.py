import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from umbel.base import new_id
from umbel.deployment.conformance import ScriptedServer
from umbel.deployment.node import NodeSettings, run_node
from umbel.deployment.wire import umbel_pb2 as wire
from umbel.records import ArrayRecord, ConfigRecord, RecordDict, decode, encode

APP = Path(__file__).parent / "app"
ROOT = Path(__file__).parents[3]


def joined(content):
    return b"".join(encode(content))


def run_info(run_id="run-1", **fields):
    usual = {"client_app": "node_app:app", "run_config": json.dumps({"epochs": 2})}
    return wire.RunInfo(run_id=run_id, **(usual | fields))


def query(kind, run=None, **config):
    records = joined(RecordDict({"config": ConfigRecord(config)}))
    return wire.Task(
        message_id=new_id(),
        run=run or run_info(),
        message_type=f"query.{kind}",
        ttl_s=60,
        records=records,
    )


def train(server, size=10, run=None):
    arrays = ArrayRecord({"w": np.arange(size, dtype=np.float32)})
    body = server.objects.add(joined(RecordDict({"arrays": arrays})))
    records = joined(RecordDict({"config": ConfigRecord({"lr": 0.5})}))
    return wire.Task(
        message_id=new_id(),
        run=run or run_info(),
        message_type="train",
        group_id="1",
        ttl_s=60,
        body=body,
        records=records,
    )


def content(server, reply):
    kind = reply.WhichOneof("outcome")
    assert kind != "failure", reply.failure
    return decode(reply.content if kind == "content" else server.objects.complete[reply.body.hash])


class Events(list):
    """What a node said, and a way to wait for it."""

    def __init__(self):
        self._news = asyncio.Event()

    def __call__(self, event):
        self.append(event)
        self._news.set()

    def kinds(self):
        return [event.kind for event in self]

    async def wait(self, kind, text="", count=1):
        async with asyncio.timeout(20):
            while True:
                found = [e for e in self if e.kind == kind and text in e.text]
                if len(found) >= count:
                    return found[count - 1]
                self._news.clear()
                await self._news.wait()


@pytest.fixture
def settings(tmp_path):
    def make(server, **fields):
        usual = {"address": f"127.0.0.1:{server.port}", "data_dir": tmp_path / "node", "app": APP}
        return NodeSettings(**(usual | fields))

    return make


@contextlib.asynccontextmanager
async def listening():
    server = ScriptedServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def node(settings, leave=None):
    """Run a node in this process, except for its workers."""
    events = Events()
    task = asyncio.create_task(run_node(settings, events, leave))
    try:
        yield events
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


@contextlib.asynccontextmanager
async def node_process(settings, *options):
    """Run a node in a process of its own, which a test may kill."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "umbel.deployment.node"),
        *(settings.address, str(settings.data_dir), "--app", str(APP), *options),
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=asyncio.subprocess.PIPE,
    )
    events = Events()

    async def read():
        async for line in process.stdout:
            events(Said(**json.loads(line)))

    reading = asyncio.create_task(read())
    try:
        yield process, events
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


class Said:
    def __init__(self, **fields):
        self.__dict__.update(fields)

    def __repr__(self):
        return f"{self.kind}: {self.text}"


def metrics(server, reply):
    return dict(content(server, reply)["metrics"])


@pytest.fixture
def kit(settings):
    """Return what these tests share; test files cannot import each other."""
    return SimpleNamespace(
        content=content,
        joined=joined,
        listening=listening,
        metrics=metrics,
        node=node,
        node_process=node_process,
        query=query,
        run_info=run_info,
        settings=settings,
        train=train,
    )
