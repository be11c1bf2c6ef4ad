"""From a step to its effects: they are carried out when the journal has the event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from umbel.coordinator import Effect
from umbel.store import Journal

_SNAPSHOT_ENTRIES = 20_000
"""After so many entries the journal is replaced by what they amount to."""


@dataclass(slots=True)
class _Batch:
    """Steps that reach the journal together, and what is to be done when they have."""

    safe: asyncio.Future[None]
    entries: list[bytes] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    snapshot: bytes | None = None


class Journalling:
    """Writes the events of steps to a journal, and has their effects carried out, in order.

    Parameters
    ----------
    journal : Journal
        Nobody else writes to it.
    entries : int
        How many it holds behind its last snapshot.
    snapshot : callable
        Returns what all steps so far amount to.
    carry_out : callable
        Does what an effect says.
    on_broken : callable
        Called when the journal cannot be written.
    fsync : bool
        Whether the journal waits for the disk. It does so in a thread then, once for all steps
        that come meanwhile.
    """

    def __init__(
        self,
        journal: Journal,
        entries: int,
        snapshot: Callable[[], bytes],
        carry_out: Callable[[Effect], None],
        on_broken: Callable[[], None],
        *,
        fsync: bool,
    ) -> None:
        self.broken: Exception | None = None
        self._journal = journal
        self._entries = entries
        self._snapshot = snapshot
        self._carry_out = carry_out
        self._on_broken = on_broken
        self._fsync = fsync
        self._batch: _Batch | None = None
        self._writer: asyncio.Task[None] | None = None
        # Not one of those that all share: they may be busy with what is pushed.
        self._thread = ThreadPoolExecutor(1, "umbel-journal")

    def add(self, entry: bytes | None, effects: Iterable[Effect]) -> asyncio.Future[None]:
        """Take a step, with its entry if it is to have one.

        Returns
        -------
        Future
            Done when the entry is in the journal and the effects are carried out.
        """
        if self._batch is None:
            self._batch = _Batch(asyncio.get_running_loop().create_future())
        batch = self._batch
        batch.effects.extend(effects)
        if entry is not None:
            batch.entries.append(entry)
        if self._writer is None and self._fsync and batch.entries:
            self._writer = asyncio.create_task(self._write_behind())
        if self._writer is not None:
            return asyncio.shield(batch.safe)
        self._take()
        try:
            self._write(batch)
        except Exception as error:
            self._break(error)
            raise
        self._complete(batch)
        return batch.safe

    async def settled(self) -> None:
        """Wait until all steps so far are in the journal, however many come meanwhile.

        Raises
        ------
        Exception
            What the journal could not be written for.
        """
        if self.broken is not None:
            raise self.broken
        await self.add(None, ())

    async def _write_behind(self) -> None:
        """Bring steps to the disk, as long as some come meanwhile."""
        loop = asyncio.get_running_loop()
        try:
            while (batch := self._take()) is not None:
                try:
                    await loop.run_in_executor(self._thread, self._write, batch)
                    self._complete(batch)
                except Exception as error:
                    batch.safe.set_exception(error)
                    self._break(error)
                    return
        finally:
            self._writer = None

    def _take(self) -> _Batch | None:
        batch, self._batch = self._batch, None
        if batch is not None:
            self._entries += len(batch.entries)
            if batch.entries and self._entries >= _SNAPSHOT_ENTRIES:
                self._entries, batch.snapshot = 0, self._snapshot()
        return batch

    def _write(self, batch: _Batch) -> None:
        if batch.entries:
            number = self._journal.append(batch.entries)
            if batch.snapshot is not None:
                self._journal.snapshot(number, batch.snapshot)

    def _break(self, error: Exception) -> None:
        """Let nothing happen any more: nobody could replay what came after a gap in the journal."""
        self.broken = error
        self._on_broken()
        if self._batch is not None:
            self._batch.safe.set_exception(error)

    def _complete(self, batch: _Batch) -> None:
        for effect in batch.effects:
            self._carry_out(effect)
        batch.safe.set_result(None)
