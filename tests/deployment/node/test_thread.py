import asyncio
import threading

import pytest

from umbel.base import new_id
from umbel.clientapp import ClientApp
from umbel.deployment.node.thread import ThreadWorker
from umbel.records import Message, MetricRecord, RecordDict, decode

RUN = {"run_id": "run", "node_id": 3, "node_config": {}, "run_config": {}, "threads": None}


@pytest.fixture
def order(tmp_path):
    name = new_id()
    return {
        "envelope": [name, "query", "1", 0.0, 60.0],
        "body": None,
        "records": "",
        "codec": "",
        **{key: str(tmp_path / key) for key in ("state", "new_state", "reply")},
    }


def answering(function):
    app = ClientApp()
    app.query()(function)
    return app


def draws(message, context):
    import random

    metrics = MetricRecord({"drawn": random.random()})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


async def asked(app, order, seed=None):
    worker = ThreadWorker(app)
    await worker.start({**RUN, "seed": seed})
    answer = await worker.ask(order)
    await worker.end()
    return answer


def test_it_answers_with_the_object_itself(order, tmp_path):
    threads = []

    def note(message, context):
        threads.append((threading.current_thread().name, context.node_id))
        return Message(RecordDict(), reply_to=message)

    answer = asyncio.run(asked(answering(note), order))
    assert threads == [("umbel-client", 3)]
    assert answer["size_bytes"] == (tmp_path / "reply").stat().st_size


def test_a_seeded_client_leaves_the_callers_chance_alone(order, tmp_path):
    import random

    state, drawn = random.getstate(), []
    for _ in range(2):
        asyncio.run(asked(answering(draws), order, seed=5))
        drawn.append(decode((tmp_path / "reply").read_bytes())["metrics"]["drawn"])
    assert drawn[0] == drawn[1]
    assert random.getstate() == state


@pytest.mark.parametrize("error", [SystemExit("bye"), KeyboardInterrupt("bye"), ValueError("bye")])
def test_whatever_the_client_raises_is_a_failure(order, error, capsys):
    def fail(message, context):
        raise error

    code, kind, reason = asyncio.run(asked(answering(fail), order))["failure"]
    assert (code, kind, reason) == (2, type(error).__name__, "bye")


def test_a_task_that_is_given_up_is_left_alone_and_the_next_waits_its_turn(order, tmp_path):
    begun, may_end, calls, busy = threading.Event(), threading.Event(), [], threading.Lock()

    def slow(message, context):
        assert busy.acquire(blocking=False)
        calls.append(len(calls))
        begun.set()
        assert may_end.wait(10)
        busy.release()
        return Message(RecordDict(), reply_to=message)

    async def main():
        worker = ThreadWorker(answering(slow))
        await worker.start({**RUN, "seed": None})
        first = asyncio.create_task(worker.ask(order))
        assert await asyncio.to_thread(begun.wait, 10)
        first.cancel()
        await asyncio.wait({first})
        await worker.kill()
        second = asyncio.create_task(worker.ask(order))
        may_end.set()
        return await second

    assert "size_bytes" in asyncio.run(main())
    assert calls == [0, 1]
