"""The sum over a cohort whose replies come from the network in any order."""

from __future__ import annotations

from typing import Any

from umbel.deployment.server.mapped import MappedFiles
from umbel.records import Error, Message
from umbel.serverapp import Folded, Run, rejected
from umbel.updates import Aggregator, PartialSums, add_member

_SUMS_MAX = 2
"""So many partial sums are held at once; replies that would begin another one wait on disk."""


class Cohort:
    """Adds replies as they come, with the brackets that the simulation has.

    A reply whose turn has not come yet waits as a view of its file, which takes no memory.
    """

    def __init__(
        self,
        run: Run,
        messages: list[Message],
        aggregator: Aggregator[Any],
        files: MappedFiles,
    ) -> None:
        self._run = run
        self._files = files
        self._aggregator = aggregator
        self._messages = messages
        self._sums: PartialSums[Any] = PartialSums(len(messages), aggregator.merge)
        self._missing = set(range(len(messages)))
        self._waiting: dict[int, Message] = {}
        self._failures: dict[int, Error] = {}

    def take(self, position: int, reply: Message) -> None:
        """Add the reply to the message at this position, or note why there is none to add."""
        self._missing.discard(position)
        if reply.has_content():
            self._waiting[position] = reply
        else:
            self._skip(position, reply.error)
            position += 1
        if self._add_from(position):
            # A sum came to an end, so that there may be room for another.
            for first in sorted(self._waiting):
                self._add_from(first)

    def missing(self) -> list[Message]:
        """Return the messages that have no reply."""
        return [self._messages[position] for position in sorted(self._missing)]

    def folded(self, needed: int, absent: Error) -> Folded:
        """Return the outcome; those that are missing failed for the reason ``absent``."""
        for position in self._missing:
            self._skip(position, absent)
        self._missing.clear()
        for position in sorted(self._waiting):
            self._add_from(position, len(self._messages))
        failures = [
            (self._messages[position].metadata.dst_node_id, error)
            for position, error in sorted(self._failures.items())
        ]
        count = len(self._messages) - len(failures)
        total = self._sums.total() if count >= needed else None
        del self._sums
        return Folded(None if total is None else self._aggregator.finish(total), count, failures)

    def _skip(self, position: int, error: Error) -> None:
        self._failures[position] = error
        self._sums.put((position, position + 1), None)

    def _add_from(self, position: int, sums_max: int = _SUMS_MAX) -> bool:
        """Add the reply at this position and those right after it that are there, as room allows.

        Returns whether any was added.
        """
        begin = position
        while position in self._waiting and self._sums.has_room(position, sums_max):
            content = self._waiting.pop(position).content
            with self._files.let_go():
                rejection = add_member(self._sums, self._aggregator, position, content)
            if rejection is not None:
                error = rejected(rejection)
                self._failures[position] = error
                self._run.fail(self._messages[position].metadata.dst_node_id, error)
            position += 1
        return position > begin
