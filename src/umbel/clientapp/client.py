"""A client as a class: one method for each kind of message."""

from __future__ import annotations

from typing import NoReturn

from umbel.base import UsageError
from umbel.records import Context, Message


class Client:
    """Base class of clients that work on messages; override what your strategy asks for.

    A ``ClientApp`` given a ``client_fn`` makes one client for each message and calls the method
    named after the message's type. All actions of a type come to its one method: read
    ``message.metadata.message_type`` to tell "train.warm_up" from "train".

    Examples
    --------
    >>> from umbel.records import RecordDict
    >>> class Echo(Client):
    ...     def train(self, message, context):
    ...         return Message(message.content, reply_to=message)
    >>> message = Message(RecordDict(), 1, "train")
    >>> Echo().train(message, context=None).metadata.message_type
    'train'
    """

    def train(self, message: Message, context: Context) -> Message:
        """Return the reply to a message of type "train"."""
        not_implemented(self, "train")

    def evaluate(self, message: Message, context: Context) -> Message:
        """Return the reply to a message of type "evaluate"."""
        not_implemented(self, "evaluate")

    def query(self, message: Message, context: Context) -> Message:
        """Return the reply to a message of type "query"."""
        not_implemented(self, "query")

    def to_client(self) -> Client:
        """Return the client that handles messages: this one."""
        return self


def not_implemented(client: object, method: str) -> NoReturn:
    """Raise the error for a method that the server asked for and the class leaves out."""
    name = type(client).__name__
    raise UsageError(
        f"{name} does not implement {method}, which the server asked for",
        hint=f"define {name}.{method}, or configure the strategy not to ask for it",
    )
