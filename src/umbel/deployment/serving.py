"""A server as a coroutine. What only servers need is imported when one starts: nodes stay small."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from umbel.base import keep_freed_memory, raise_open_files_limit
from umbel.deployment.server.settings import ServerSettings


async def serve(
    settings: ServerSettings, ended: asyncio.Event, on_start: Callable[[int], None]
) -> None:
    """Run a server until ``ended`` is set.

    Parameters
    ----------
    settings : ServerSettings
        How it runs.
    ended : asyncio.Event
        Ends it in order: runs go on when a server starts again on the same data folder.
    on_start : callable
        Called with the port once nodes and users can connect.

    Raises
    ------
    ConfigError
        The port cannot be listened on, or the data folder cannot be used.
    JournalCorrupt
        The journal was damaged.
    """
    from umbel.deployment.channel import KEPT_MEMORY_BYTES
    from umbel.deployment.server.server import Server

    raise_open_files_limit()  # each node is one
    keep_freed_memory(KEPT_MEMORY_BYTES)
    server = Server(settings)
    try:
        await server.start()
        on_start(server.port)
        await server.serve(ended)
    finally:
        await server.close()
