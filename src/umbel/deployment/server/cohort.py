"""The sum over a cohort whose replies come from the network in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from umbel.deployment.server.mapped import MappedFiles
from umbel.records import Error, Message, decode, encode
from umbel.serverapp import Folded, Run, rejected
from umbel.updates import Aggregator, PartialSums, add_member

_SMALL_BYTES = 4 * 1024 * 1024
"""Of a model of at most so many bytes several sums are in memory, of a larger one that grows."""

_SUMS_BYTES = 64 * 1024 * 1024
"""So much do sums of a small model take; replies that would begin another one then wait."""


class Cohort:
    """Adds replies as they come, with the brackets that the simulation has.

    A reply whose turn has not come yet waits as a view of its file, which takes no memory; without
    one there are only those that came in the stream. Of a large model one sum at a time is in
    memory, whatever the order in which replies come: one block of the cohort is summed after the
    other, and sums that wait for their siblings lie in files.
    """

    def __init__(
        self,
        run: Run,
        messages: list[Message],
        aggregator: Aggregator[Any],
        files: MappedFiles,
        folder: Path,
    ) -> None:
        self._run = run
        self._files = files
        self._folder = folder
        self._aggregator = aggregator
        self._messages = messages
        self._sums: PartialSums[Any] = PartialSums(len(messages), aggregator.merge)
        self._missing = set(range(len(messages)))
        self._waiting: dict[int, Message] = {}
        self._failures: dict[int, Error] = {}
        self._held_back = False

    def take(self, position: int, reply: Message) -> None:
        """Add the reply to the message at this position, or note why there is none to add."""
        self._missing.discard(position)
        if reply.has_content():
            self._waiting[position] = reply
        else:
            self._skip(position, reply.error)
        added = sum(self._add_from(first) for first in range(*self._sums.block_of(position)))
        added += reply.has_error()
        while self._held_back and added:
            # A sum may have come to an end, so that there is room for another.
            self._held_back = False
            added = sum(self._add_from(first) for first in sorted(self._waiting))

    def missing(self) -> list[Message]:
        """Return the messages that have no reply."""
        return [self._messages[position] for position in sorted(self._missing)]

    def folded(self, needed: int, absent: Error) -> Folded:
        """Return the outcome; those that are missing failed for the reason ``absent``."""
        for position in self._missing:
            self._skip(position, absent)
        self._missing.clear()
        for position in sorted(self._waiting):
            self._add_from(position)
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
        message = self._messages[position]
        if _bytes_of(message) > _SMALL_BYTES and len(self._sums.in_memory()) > 1:
            self._sums.stow(self._stowed)  # sums that lay in files have become another one

    def _add_from(self, position: int) -> bool:
        """Add the reply at this position and those right after it that are there, as room allows.

        Returns whether any was added.
        """
        begin = position
        while position in self._waiting and self._has_room(position):
            content = self._waiting.pop(position).content
            with self._files.let_go():
                rejection = add_member(self._sums, self._aggregator, position, content)
            if rejection is not None:
                error = rejected(rejection)
                self._failures[position] = error
                self._run.fail(self._messages[position].metadata.dst_node_id, error)
            position += 1
        return position > begin

    def _has_room(self, position: int) -> bool:
        """Whether this reply can be added now; if it begins a sum, there is room for that then."""
        sums = self._sums
        if not sums.is_next(position):
            return False
        size = max(map(_bytes_of, (self._messages[position], self._waiting[position])))
        if size <= _SMALL_BYTES and len(self._messages) * size < _SUMS_BYTES:
            return True
        start, end = sums.block_of(position)
        others = [span for span in sums.in_memory() if span != (start, position)]
        if size <= _SMALL_BYTES:
            return len(others) * size < _SUMS_BYTES or not self._missing
        if not others:
            return True
        grows = any(stop < sums.block_of(first)[1] for first, stop in others)
        if grows and not self._missing.isdisjoint(range(position, end)):
            # To put a sum aside costs as much as to add a reply: not for less than a whole block.
            self._held_back = True
            return False
        sums.stow(self._stowed)
        return True

    def _stowed(self, acc: Any) -> Any:
        """Return the sum with its arrays in a file."""
        buffers = encode(self._aggregator.pack(acc))
        return self._aggregator.unpack(decode(self._files.hold(buffers, self._folder)))


def _bytes_of(message: Message) -> int:
    return sum(record.count_bytes() for record in message.content.array_records.values())
