"""The simulation's grid: what the server app sees of the virtual nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from umbel.base import SYSTEM_CLOCK, UsageError
from umbel.records import ArrayRecord, Message, RecordDict
from umbel.serverapp import Folded, Grid, Replies, Run
from umbel.simulation.dispatcher import Dispatcher
from umbel.simulation.executor import Executor
from umbel.simulation.job import Job
from umbel.simulation.tasks import Task
from umbel.updates import Aggregator

_PULL_S = 1.0


class SimulationGrid(Grid):
    """A grid of virtual nodes, numbered from 0, that are always connected.

    Parameters
    ----------
    executor : Executor
        Where the workers are; it is started already.
    run : Run
        The run.
    num_nodes : int
        How many nodes there are.
    client_timeout_s : float, optional
        How many seconds one client may take.
    """

    def __init__(
        self,
        executor: Executor,
        run: Run,
        num_nodes: int,
        client_timeout_s: float | None = None,
    ) -> None:
        self._dispatcher = Dispatcher(executor, run, client_timeout_s)
        self._run = run
        self._num_nodes = num_nodes
        self._job_count = 0
        self._calls = 0
        self._calls_in = (0, 0)
        self._pushed: dict[str, tuple[Job, int]] = {}

    @property
    def run(self) -> Run:
        return self._run

    def get_node_ids(self) -> Sequence[int]:
        return range(self._num_nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        job = self._open_job(list(messages), None, None)
        ids = [message.metadata.message_id for message in job.messages]
        self._pushed.update((name, (job, position)) for position, name in enumerate(ids))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        waiting = {name: self._pushed.get(name) for name in message_ids}
        for name, sent in waiting.items():
            if sent is None:
                raise UsageError(
                    f"no reply can come to message {name!r}",
                    hint="pull ids that push_messages returned, each until its reply has come",
                )
        sent_to = [sent for sent in waiting.values() if sent is not None]
        missing = [job for job, position in sent_to if job.replies[position] is None]
        if missing:
            self._work(missing, _PULL_S)
        replies = []
        for name, (job, position) in zip(waiting, sent_to, strict=True):
            reply = job.replies[position]
            if reply is not None:
                replies.append(reply)
                job.replies[position] = None
                del self._pushed[name]
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Replies:
        return Replies(self._stream(self._open_job(list(messages), None, timeout)))

    def fold(
        self,
        messages: Iterable[Message],
        aggregator: Aggregator[Any],
        *,
        timeout: float | None = None,
        needed: int = 1,
    ) -> Folded:
        messages = list(messages)
        nodes = {message.metadata.dst_node_id for message in messages}
        if len(nodes) < len(messages):
            # A node with two messages has one state: collect in order, then fold; the same bits.
            return super().fold(messages, aggregator, timeout=timeout, needed=needed)
        self.finish()  # two jobs must not read and write the same states at once
        job = self._open_job(messages, aggregator, timeout)
        try:
            self._dispatcher.finish(job)
            count = job.cohort - len(job.errors)
            value = _outcome(job, aggregator) if count >= needed else None
        finally:
            self._dispatcher.release(job)
        failures = [(job.tasks[p].node_id, error) for p, error in sorted(job.errors.items())]
        return Folded(value, count, failures)

    def state_dict(self) -> RecordDict:
        """Return the states of the nodes, encoded as they lie here."""
        self.finish()
        states = self._dispatcher.states
        bodies = {node: states.get(node) or b"" for node in states.node_ids()}
        arrays = {str(node): np.frombuffer(body, np.uint8) for node, body in bodies.items()}
        return RecordDict({"states": ArrayRecord(arrays)} if arrays else {})

    def load_state_dict(self, state: RecordDict) -> None:
        for node in self._dispatcher.states.node_ids():
            self._dispatcher.states.put(node, None)
        for name, array in state.array_records.get("states", ArrayRecord()).items():
            self._dispatcher.states.put(int(name), bytes(array.data))

    def finish(self) -> None:
        """Run to its end what was sent and never asked for."""
        while self._dispatcher.jobs:
            self._dispatcher.pump()

    def close(self) -> None:
        """End the workers and free all memory."""
        self._dispatcher.close()

    def _open_job(
        self, messages: list[Message], aggregator: Aggregator[Any] | None, timeout: float | None
    ) -> Job:
        self._job_count = number = self._job_count + 1
        for message in messages:
            self._check(message)
        contents = self._dispatcher.publisher.add(number, (m.content for m in messages))
        call = self._name_of_call() if any(not m.metadata.group_id for m in messages) else ""
        tasks = [
            self._task(call, position, message, content)
            for position, (message, content) in enumerate(zip(messages, contents, strict=True))
        ]
        deadline = None if timeout is None else SYSTEM_CLOCK.monotonic() + timeout
        workers = self._dispatcher.workers
        merger = None if aggregator is None else self._dispatcher.merger(aggregator)
        job = Job(number, messages, tasks, workers, merger, timeout, deadline)
        self._dispatcher.begin(job)
        return job

    def _name_of_call(self) -> str:
        """Return the name of a call outside of what a strategy configures.

        Calls are counted within a round, since a run that is resumed does not repeat the others.
        """
        place = (self._run.start, self._run.server_round)
        self._calls = self._calls + 1 if place == self._calls_in else 1
        self._calls_in = place
        return f"call-{place[0]}.{place[1]}.{self._calls}"

    def _task(self, call: str, position: int, message: Message, content: int) -> Task:
        metadata = message.metadata
        metadata.run_id = self._run.run_id
        return Task(
            position=position,
            node_id=int(metadata.dst_node_id),
            message_id=metadata.message_id,
            message_type=metadata.message_type,
            # Messages of a loop without rounds draw their randomness by the call.
            group_id=metadata.group_id or call,
            created_at=metadata.created_at,
            ttl=metadata.ttl,
            content=content,
            state=None,
        )

    def _check(self, message: Message) -> None:
        node = message.metadata.dst_node_id
        if not 0 <= node < self._num_nodes:
            raise UsageError(
                f"there is no node {node}",
                hint=f"nodes are numbered from 0 to {self._num_nodes - 1}",
            )
        if not message.has_content():
            raise UsageError("a message to a node needs content", node=node)

    def _work(self, jobs: list[Job], timeout_s: float | None = None) -> None:
        """Get on with jobs, unless one was given up: its replies will never come."""
        for job in jobs:
            if job.fault is not None:
                raise job.fault
        self._dispatcher.pump(timeout_s)

    def _stream(self, job: Job) -> Iterator[Message]:
        for position in range(job.cohort):
            while job.replies[position] is None:
                self._work([job])
            reply, job.replies[position] = job.replies[position], None
            # A message that was given up at the deadline has an error, but no reply.
            if reply is not None and position not in job.given_up:
                yield reply


def _outcome(job: Job, aggregator: Aggregator[Any]) -> Any:
    # No sum is held any more once this has returned, so that its memory can be used again.
    total = job.total()
    return None if total is None else aggregator.finish(total)
