"""A node as a program: it ends on SIGTERM and on Ctrl-C, after the task at hand."""

from __future__ import annotations

import asyncio
import signal

from umbel.base import keep_freed_memory
from umbel.deployment.channel import KEPT_MEMORY_BYTES
from umbel.deployment.node.agent import run_node
from umbel.deployment.node.settings import NodeSettings, OnEvent


def serve_node(settings: NodeSettings, on_event: OnEvent = lambda event: None) -> None:
    """Be a node until SIGTERM or Ctrl-C: the first finishes the task at hand, the second does not.

    Call it in the main thread, where signals arrive.

    Parameters
    ----------
    settings : NodeSettings
        What the owner decides.
    on_event : callable
        Called with what happens.

    Raises
    ------
    ConfigError
        The data folder cannot be used.
    """
    keep_freed_memory(KEPT_MEMORY_BYTES)
    asyncio.run(_serve(settings, on_event))


async def _serve(settings: NodeSettings, on_event: OnEvent) -> None:
    leave = asyncio.Event()
    node = asyncio.create_task(run_node(settings, on_event, leave))

    def stop() -> None:
        if leave.is_set():
            node.cancel()
        leave.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.wait({node})
    if not node.cancelled():
        node.result()
