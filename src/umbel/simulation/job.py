"""One call of the grid: its messages, what has become of each, and who works on it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from umbel.base import StateError
from umbel.records import Error, Message
from umbel.simulation.carrying import carried
from umbel.simulation.merger import Merger
from umbel.simulation.schedule import Schedule
from umbel.simulation.tasks import Task
from umbel.updates import PartialSums, Span


class Job:
    """Messages that were sent together.

    With a merger the replies are folded along the cohort's fixed tree; without one they
    are collected, in order.

    Attributes
    ----------
    settled : int
        How many messages have a reply or have failed.
    errors : dict of int to Error
        By position, why a client gave no usable reply.
    replies : list of (Message or None)
        By position, when replies are collected.
    sums : PartialSums or None
        The partial sums handed over so far, when replies are folded.
    deadline_s : float or None
        When to give up, on the monotonic clock.
    overdue : int
        How often that was: at 1 what was lost with a worker is run again, at 2 nothing is.
    given_up : set of int
        The positions that no reply had come to in time.
    fault : BaseException or None
        What ended it, when that was no client.
    """

    def __init__(
        self,
        number: int,
        messages: list[Message],
        tasks: list[Task],
        workers: int,
        merger: Merger | None,
        timeout: float | None,
        deadline_s: float | None,
    ) -> None:
        self.number = number
        self.messages = messages
        self.tasks = tasks
        self.timeout = timeout
        self._workers = workers
        self.deadline_s = deadline_s
        self.overdue = 0
        self.given_up: set[int] = set()
        self.fault: BaseException | None = None
        self.settled = 0
        self.errors: dict[int, Error] = {}
        self.replies: list[Message | None] = [None] * len(messages)
        self.merger = merger
        self.pickled: bytes | None = None
        self.sums: PartialSums[Any] | None = None
        if merger is not None:
            self.pickled = carried(merger.aggregator)
            self.sums = PartialSums(len(messages), merger.merge)
        self.schedule = Schedule(len(messages), workers, in_order=merger is None)
        self._waiting: deque[int] = deque()

    @property
    def cohort(self) -> int:
        """How many messages there are."""
        return len(self.messages)

    @property
    def done(self) -> bool:
        """Whether nothing is left to wait for."""
        if self.fault is not None:
            return True
        if self.sums is not None:
            return self.cohort == 0 or self.sums.complete()
        return self.settled == self.cohort

    @property
    def kind(self) -> str:
        """What its messages ask for; clients of one kind take about the same time."""
        return self.tasks[0].message_type if self.tasks else ""

    def open(self, positions: list[int]) -> list[int]:
        """Return those positions that have not failed or been answered."""
        return [p for p in positions if p not in self.errors and self.replies[p] is None]

    def settle(self, position: int, reply: Message, error: Error | None = None) -> None:
        """Note what has become of a message."""
        self.settled += 1
        if error is not None:
            self.errors[position] = error
        if self.sums is None:
            self.replies[position] = reply

    def put(self, span: Span, payload: Any) -> None:
        """Take a partial sum from a worker; ``None`` is one of no replies."""
        if self.sums is None or self.merger is None:
            raise StateError("a partial sum came to a job that does not fold", job=self.number)
        self.sums.put(span, None if payload is None else self.merger.take(payload))

    def put_nothing(self, positions: list[int]) -> None:
        """Take it that these messages add nothing to the sum."""
        if self.sums is not None:
            for position in positions:
                self.sums.put((position, position + 1), None)

    def total(self) -> Any:
        """Give the sum over the cohort away; ``None`` when no reply was usable."""
        sums, self.sums = self.sums, None
        acc = sums.total() if sums is not None and self.cohort else None
        return None if acc is None or self.merger is None else self.merger.total(acc)

    def take(self, worker: int, least: int, most: int, busy: set[int], *, eager: bool) -> list[int]:
        """Return positions for a worker, none of whose nodes is busy elsewhere."""
        if self.sums is not None:
            return self.schedule.take(worker, least, most, eager=eager)
        taken: list[int] = []
        put_aside: list[int] = []
        share = math.ceil(self.remaining() / (2 * self._workers))
        while len(taken) < min(most, max(least, share)):
            position = self._next(worker)
            if position is None:
                break
            node = self.tasks[position].node_id
            if node in busy:
                put_aside.append(position)
            else:
                busy.add(node)
                taken.append(position)
        self._waiting.extendleft(reversed(put_aside))
        return taken

    def remaining(self) -> int:
        """Return how many positions nobody has taken."""
        return self.schedule.remaining + len(self._waiting)

    def drop(self) -> list[int]:
        """Return the positions that nobody has taken; they will not be handed out any more."""
        dropped = [*self._waiting, *self.schedule.drop()]
        self._waiting.clear()
        return dropped

    def _next(self, worker: int) -> int | None:
        # What was put aside because its node was busy comes first, to keep the order.
        if self._waiting:
            return self._waiting.popleft()
        positions = self.schedule.take(worker, 1, 1)
        return positions[0] if positions else None


@dataclass
class WorkerState:
    """What the engine knows of a worker.

    Attributes
    ----------
    job : Job or None
        Whose batch it works on.
    positions : list of int
        The messages of that batch.
    uncommitted : dict of int to list of int
        By job number, the messages whose replies it has folded and not handed over.
    contents, blobs : set of int
        What it has been given.
    idle_since_s : float
        When it last had nothing to do, on the monotonic clock.
    """

    job: Job | None = None
    positions: list[int] = field(default_factory=list)
    uncommitted: dict[int, list[int]] = field(default_factory=dict)
    contents: set[int] = field(default_factory=set)
    blobs: set[int] = field(default_factory=set)
    idle_since_s: float = 0.0
    forget_contents: list[int] = field(default_factory=list)
    forget_blobs: list[int] = field(default_factory=list)

    def reset(self) -> None:
        """Forget everything: an empty worker has taken its place."""
        self.__dict__.update(WorkerState().__dict__)
