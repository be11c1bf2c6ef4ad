"""Mod that logs how many bytes travel."""

from __future__ import annotations

import logging

from umbel.clientapp.onion import Handler
from umbel.records import Context, Message, encode, size_bytes

_LOGGER = logging.getLogger("umbel.clientapp")


def message_size_mod(message: Message, context: Context, call_next: Handler) -> Message:
    """Log the size in bytes of each message and of its reply, as they are when encoded.

    The line goes to the logger "umbel.clientapp" with level INFO; nothing is measured while that
    level is off.

    Examples
    --------
    >>> from umbel.clientapp import ClientApp
    >>> app = ClientApp(mods=[message_size_mod])
    """
    if not _LOGGER.isEnabledFor(logging.INFO):
        return call_next(message, context)
    received = _size(message)  # before the call: the handler may change the content
    reply = call_next(message, context)
    _LOGGER.info(
        "node %s, %s message: %s in, %s out",
        context.node_id,
        message.metadata.message_type,
        received,
        _size(reply),
    )
    return reply


def _size(message: Message) -> str:
    return f"{size_bytes(encode(message.content))} bytes" if message.has_content() else "an error"
