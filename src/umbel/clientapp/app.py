"""The client's side of an app: which function answers which message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from umbel.base import Lifespan, UsageError, check_lifespan, entered
from umbel.clientapp.client import Client
from umbel.clientapp.numpy_client import NumPyClient
from umbel.clientapp.onion import (
    Handler,
    Mod,
    build_onion,
    check_handler,
    checked_mods,
    checked_reply,
    name_of,
)
from umbel.records import Context, Message

ClientFn = Callable[[Context], Client | NumPyClient]
"""Makes the client that will handle one message."""

HandlerT = TypeVar("HandlerT", bound=Handler)
LifespanT = TypeVar("LifespanT", bound=Lifespan[Context])

_DEFAULT_ACTION = "default"
_CATEGORIES = ("train", "evaluate", "query")
_CATEGORIES_HINT = f"the types of messages to clients are {', '.join(_CATEGORIES)}"


class ClientApp:
    """Answers messages with the functions registered for their types.

    A message of type "train" goes to the function under ``@app.train()``, one of type
    "train.warm_up" to that under ``@app.train("warm_up")``; in the same way for "evaluate" and
    "query". Instead of functions an app can be given ``client_fn``, which makes a client object.

    Parameters
    ----------
    client_fn : callable, optional
        ``client_fn(context)`` returns a ``Client`` or a ``NumPyClient``. It is called for each
        message; what has to last from round to round belongs into ``context.state``.
    mods : sequence of Mod, optional
        Layers around every handler of this app, the first outermost. Those of a single handler lie
        inside them.

    Raises
    ------
    UsageError
        ``client_fn`` or a mod cannot be called as it will be.

    Examples
    --------
    >>> from umbel.records import Context, Message, MetricRecord, RecordDict
    >>> app = ClientApp()
    >>> @app.query("count")
    ... def count(message, context):
    ...     metrics = MetricRecord({"num-examples": 120})
    ...     return Message(RecordDict({"metrics": metrics}), reply_to=message)
    >>> context = Context(run_id="r", node_id=1, node_config={}, state=RecordDict(), run_config={})
    >>> reply = app(Message(RecordDict(), 1, "query.count"), context)
    >>> reply.content["metrics"]["num-examples"]
    120
    """

    def __init__(
        self, client_fn: ClientFn | None = None, mods: Sequence[Mod] | None = None
    ) -> None:
        self._mods = checked_mods(mods)
        self._handlers: dict[str, Handler] = {}
        self._registered: dict[str, str] = {}
        self._lifespan: Lifespan[Context] | None = None
        self._client_handler: Handler | None = None
        if client_fn is not None:
            if not callable(client_fn):
                raise UsageError(
                    f"client_fn is {type(client_fn).__name__}, not a function",
                    hint="pass a function that takes the Context and returns a client",
                )
            self._client_handler = build_onion(_client_handler(client_fn), self._mods)

    def train(
        self, action: str = _DEFAULT_ACTION, *, mods: Sequence[Mod] | None = None
    ) -> Callable[[HandlerT], HandlerT]:
        """Register the function below for "train" messages.

        Parameters
        ----------
        action : str
            The part of the message type after the point; an identifier.
        mods : sequence of Mod, optional
            Layers around this handler alone, inside those of the app.

        Raises
        ------
        UsageError
            The action is no identifier or is taken, the function does not take
            ``(message, context)``, or the app has a ``client_fn``.
        """
        return self._register("train", action, mods)

    def evaluate(
        self, action: str = _DEFAULT_ACTION, *, mods: Sequence[Mod] | None = None
    ) -> Callable[[HandlerT], HandlerT]:
        """Register the function below for "evaluate" messages; see ``train``."""
        return self._register("evaluate", action, mods)

    def query(
        self, action: str = _DEFAULT_ACTION, *, mods: Sequence[Mod] | None = None
    ) -> Callable[[HandlerT], HandlerT]:
        """Register the function below for "query" messages; see ``train``."""
        return self._register("query", action, mods)

    def lifespan(self) -> Callable[[LifespanT], LifespanT]:
        """Register the generator function below to run around every message.

        It takes the ``Context`` and yields exactly once. What stands before the ``yield`` runs
        before the handler and its mods, what stands after it runs after them, also when they raise.

        Raises
        ------
        UsageError
            The app has a lifespan already, or the function is not a generator function. When a
            message is handled: the function yields not at all, or more than once.

        Examples
        --------
        >>> app = ClientApp()
        >>> @app.lifespan()
        ... def device(context):
        ...     print("set up for node", context.node_id)
        ...     yield
        ...     print("clean up")
        """

        def register(function: LifespanT) -> LifespanT:
            if self._lifespan is not None:
                raise UsageError(
                    f"the app has a lifespan already: {name_of(self._lifespan)}",
                    hint="an app has one lifespan; put both into it",
                )
            check_lifespan(function)
            self._lifespan = function
            return function

        return register

    def __call__(self, message: Message, context: Context) -> Message:
        """Return the reply to ``message``.

        Exceptions of the handler are not caught here: whoever runs the app turns them into an
        error reply.

        Raises
        ------
        UsageError
            Nothing is registered for the message's type, or a handler or a mod returned something
            that is not a reply to its message.
        """
        handler = self._handlers.get(message.metadata.message_type) or self._client_handler
        if handler is None:
            raise self._unknown(message.metadata.message_type)
        if self._lifespan is None:
            return handler(message, context)
        with entered(self._lifespan, context):
            return handler(message, context)

    def _register(
        self, category: str, action: str, mods: Sequence[Mod] | None
    ) -> Callable[[HandlerT], HandlerT]:
        if not isinstance(action, str):
            raise UsageError(
                f"the action of @app.{category} is {name_of(action)}, not a string",
                hint=f"write the parentheses: @app.{category}()",
            )
        if not action.isidentifier():
            raise UsageError(
                f"{action!r} cannot name an action",
                hint="use letters, digits and underscores, and do not start with a digit",
            )
        if self._client_handler is not None:
            raise UsageError(
                f"@app.{category} cannot be used on an app that has a client_fn",
                hint="use either client_fn or the decorators",
            )
        message_type = f"{category}.{action}"
        checked = checked_mods(mods)

        def register(function: HandlerT) -> HandlerT:
            if message_type in self._handlers:
                raise UsageError(
                    f"{message_type!r} is registered twice: {self._registered[message_type]} and "
                    f"{name_of(function)}",
                    hint=f'give one of them another action: @app.{category}("name")',
                )
            check_handler(function)
            onion = build_onion(function, (*self._mods, *checked))
            self._handlers[message_type] = onion
            self._registered[message_type] = name_of(function)
            if action == _DEFAULT_ACTION:
                self._handlers[category] = onion
            return function

        return register

    def _unknown(self, message_type: str) -> UsageError:
        known = ", ".join(
            f"{name.removesuffix('.' + _DEFAULT_ACTION)} ({function})"
            for name, function in sorted(self._registered.items())
        )
        category, _, action = message_type.partition(".")
        hint = f"put @app.{category}({repr(action) if action else ''}) above the function for them"
        if category not in _CATEGORIES:
            hint = _CATEGORIES_HINT
        return UsageError(
            f"nothing is registered for messages of type {message_type!r}; registered: "
            f"{known or 'nothing'}",
            hint=hint,
        )


def _client_handler(client_fn: ClientFn) -> Handler:
    def run_client(message: Message, context: Context) -> Message:
        made: object = client_fn(context)
        client: object = made.to_client() if isinstance(made, (Client, NumPyClient)) else made
        if not isinstance(client, Client):
            raise UsageError(
                f"client_fn {name_of(client_fn)} returned {type(client).__name__}, not a client",
                hint="return an instance of a subclass of Client or NumPyClient",
            )
        message_type = message.metadata.message_type
        match message_type.partition(".")[0]:
            case "train":
                method = client.train
            case "evaluate":
                method = client.evaluate
            case "query":
                method = client.query
            case _:
                raise UsageError(
                    f"a client does not answer messages of type {message_type!r}",
                    hint=_CATEGORIES_HINT,
                )
        return checked_reply(method(message, context), message, method)

    return run_client
