"""Replies that can be read while the others are still on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from umbel.records import Message


class Replies(Sequence[Message]):
    """The replies to one call, in the order of the messages.

    Iterating yields each reply as soon as it and those before it are there; ``len`` and indexing
    wait for all. A message that no reply came to within the time allowed is left out.

    Parameters
    ----------
    source : iterator of Message
        Gives the replies in order; it is read once.
    on_read : callable, optional
        Called with every reply as it is first read.
    """

    def __init__(
        self, source: Iterator[Message], on_read: Callable[[Message], None] | None = None
    ) -> None:
        self._source = source
        self._read: list[Message] = []
        self._on_read = on_read

    def __iter__(self) -> Iterator[Message]:
        position = 0
        while position < len(self._read) or self._advance():
            yield self._read[position]
            position += 1

    def each_once(self) -> Iterator[Message]:
        """Yield the replies that nobody has read yet as they come, and keep none of them."""
        return map(self._heard, self._source)

    def __len__(self) -> int:
        return len(self._drain())

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        return self._drain()[index]

    def _advance(self) -> bool:
        reply = next(self._source, None)
        if reply is None:
            return False
        self._read.append(self._heard(reply))
        return True

    def _heard(self, reply: Message) -> Message:
        if self._on_read is not None:
            self._on_read(reply)
        return reply

    def _drain(self) -> list[Message]:
        while self._advance():
            pass
        return self._read
