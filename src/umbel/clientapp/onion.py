"""Middleware around a handler: layers are put together once and then only called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from umbel.base import UsageError
from umbel.records import Context, Message

Handler = Callable[[Message, Context], Message]
"""Takes a message and the node's context, and returns the reply."""

Mod = Callable[[Message, Context, Handler], Message]
"""Takes a message, the context and the next layer (``call_next``), and returns the reply."""


def build_onion(handler: Handler, mods: Sequence[Mod]) -> Handler:
    """Return ``handler`` wrapped into ``mods``, the first of them outermost.

    Every layer's answer is checked to be a reply to the message that the layer was given, so that
    an error names the function at fault.
    """
    layered = _core(handler)
    for mod in reversed(mods):
        layered = _layer(mod, layered)
    return layered


def _core(handler: Handler) -> Handler:
    def call_handler(message: Message, context: Context) -> Message:
        return checked_reply(handler(message, context), message, handler)

    return call_handler


def _layer(mod: Mod, call_next: Handler) -> Handler:
    def call_mod(message: Message, context: Context) -> Message:
        return checked_reply(mod(message, context, call_next), message, mod)

    return call_mod


def checked_reply(reply: object, message: Message, function: Callable[..., object]) -> Message:
    """Return ``reply`` if it is a reply to ``message``.

    Raises
    ------
    UsageError
        It is not; the text names ``function``.
    """
    if not isinstance(reply, Message):
        raise UsageError(
            f"{name_of(function)} returned {type(reply).__name__}, not a Message",
            hint="end it with `return Message(content, reply_to=message)`",
        )
    if not reply.metadata.answers(message.metadata):
        raise UsageError(
            f"{name_of(function)} returned a Message that is not a reply to the one it was given",
            hint="build it with `Message(content, reply_to=message)`",
            message_type=message.metadata.message_type,
        )
    return reply


def check_handler(handler: Callable[..., object]) -> None:
    """Raise ``UsageError`` unless ``handler`` can be called as ``handler(message, context)``."""
    if not _takes(handler, 2):
        raise UsageError(
            f"{name_of(handler)} cannot be called with (message, context)",
            hint="write it as `def handler(message, context): ...`",
        )


def checked_mods(mods: Sequence[Mod] | None) -> tuple[Mod, ...]:
    """Return ``mods`` as a tuple.

    Raises
    ------
    UsageError
        One of them cannot be called as ``mod(message, context, call_next)``.
    """
    if mods is None:
        return ()
    if not isinstance(mods, Sequence):
        raise UsageError(f"mods is {type(mods).__name__}, not a list", hint="write mods=[...]")
    for mod in mods:
        if not _takes(mod, 3):
            name = name_of(mod)
            raise UsageError(
                f"mod {name} cannot be called with (message, context, call_next)",
                hint=f"if {name} makes a mod, call it: mods=[{name}(...)]",
            )
    return tuple(mods)


def _takes(function: object, count: int) -> bool:
    if not callable(function):
        return False
    try:
        signature = inspect.signature(function)
    except ValueError:
        return True  # some built-in callables do not tell
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def name_of(function: object) -> str:
    """Return the name by which the author of ``function`` knows it."""
    return getattr(function, "__qualname__", None) or repr(function)
