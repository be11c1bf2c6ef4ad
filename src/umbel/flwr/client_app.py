"""``ClientApp`` with clients of either API."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from umbel import clientapp
from umbel.clientapp import Handler, Mod
from umbel.flwr.clients import Client, NumPyClient, answer_message
from umbel.records import Array, Context, Message

ClientFn = Callable[[str], Any]
ClientFnExt = Callable[[Context], Any]


class ClientApp(clientapp.ClientApp):
    """Umbel's client app; ``client_fn`` may also return clients of the older API.

    Parameters
    ----------
    client_fn : callable, optional
        ``client_fn(context)``, or ``client_fn(cid)`` with the partition's number as a string.
    mods : sequence of Mod, optional
        Layers around every handler.
    """

    def __init__(
        self, client_fn: Callable[..., Any] | None = None, mods: Sequence[Mod] | None = None
    ) -> None:
        super().__init__(None if client_fn is None else _on_messages(client_fn), mods)


class _OnMessages(clientapp.Client):
    """Answers messages with a client of the older API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def train(self, message: Message, context: Context) -> Message:
        return answer_message(self._client, message, context)

    def evaluate(self, message: Message, context: Context) -> Message:
        return answer_message(self._client, message, context)

    def query(self, message: Message, context: Context) -> Message:
        return answer_message(self._client, message, context)


def _on_messages(client_fn: Callable[..., Any]) -> Callable[[Context], Any]:
    by_name = _takes_cid(client_fn)

    def make_client(context: Context) -> Any:
        cid = str(context.node_config.get("partition-id", context.node_id))
        made = client_fn(cid if by_name else context)
        client = made.to_client() if isinstance(made, Client | NumPyClient) else made
        return _OnMessages(client) if isinstance(client, Client) else client

    return make_client


def _takes_cid(client_fn: Callable[..., Any]) -> bool:
    """Whether a client function is of the oldest form, which takes the client's name."""
    try:
        first = next(iter(inspect.signature(client_fn).parameters.values()), None)
    except (TypeError, ValueError):
        return False
    return first is not None and (first.name == "cid" or first.annotation in (str, "str"))


def arrays_size_mod(message: Message, context: Context, call_next: Handler) -> Message:
    """Log how many values and bytes each array record of a message and of its reply holds."""
    from umbel.flwr.logs import logger

    reply = call_next(message, context)
    for way, one in (("in", message), ("out", reply)):
        records = one.content.array_records if one.has_content() else {}
        for name, record in records.items():
            values = sum(_size(array) for array in record.values())
            logger.info("%s %s: %d values, %d bytes", way, name, values, record.count_bytes())
    return reply


def _size(array: Array) -> int:
    return int(array.view().size)
