"""A grid of one function, for unit tests of strategies and server apps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from umbel.base import UsageError
from umbel.records import Error, ErrorCode, Message
from umbel.serverapp import Grid, Replies, Run, no_reply


class FakeGrid(Grid):
    """A grid whose nodes are one function, called on the spot in the caller's process.

    Parameters
    ----------
    handler : callable
        ``handler(message) -> Message``, called once for each message, in order; ``None`` stands for
        a reply that never comes. What it raises becomes an error reply, as on any grid.
    nodes : int or sequence of int, default=2
        The number of nodes, with ids from 0; or their ids.
    run : Run, optional
        The run that the grid serves; a new one by default.

    Attributes
    ----------
    handler : callable
        What was given.

    Raises
    ------
    UsageError
        A message goes to a node that is none of these, or a reply is pulled that cannot come.

    Examples
    --------
    >>> from umbel.records import MetricRecord, RecordDict
    >>> def handler(message):
    ...     metrics = MetricRecord({"id": message.metadata.dst_node_id})
    ...     return Message(RecordDict({"metrics": metrics}), reply_to=message)
    >>> grid = FakeGrid(handler, nodes=3)
    >>> calls = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
    >>> [reply.content["metrics"]["id"] for reply in grid.send_and_receive(calls)]
    [0, 1, 2]
    """

    def __init__(
        self,
        handler: Callable[[Message], Message | None],
        nodes: int | Sequence[int] = 2,
        run: Run | None = None,
    ) -> None:
        self.handler = handler
        self._nodes = range(nodes) if isinstance(nodes, int) else tuple(nodes)
        self._run = Run(simulated=True) if run is None else run
        self._pushed: dict[str, Message | None] = {}

    @property
    def run(self) -> Run:
        return self._run

    def get_node_ids(self) -> Sequence[int]:
        return self._nodes

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        replies = {message.metadata.message_id: self._ask(message) for message in messages}
        self._pushed.update(replies)
        return list(replies)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ids = list(message_ids)
        if unknown := [name for name in ids if name not in self._pushed]:
            raise UsageError(
                f"no reply can come to message {unknown[0]!r}",
                hint="pull ids that push_messages returned, each until its reply has come",
            )
        # What never comes stays there to be asked for.
        replies = {name: self._pushed[name] for name in ids}
        for name, reply in replies.items():
            if reply is not None:
                del self._pushed[name]
        return [reply for reply in replies.values() if reply is not None]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Replies:
        return Replies(self._answers(list(messages), timeout))

    def _answers(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        for message in messages:
            reply = self._ask(message)
            if reply is not None:
                yield reply
                del reply  # not held while the next one is made
            else:
                metadata = message.metadata
                self.run.fail(metadata.dst_node_id, no_reply(timeout), metadata.message_type)

    def _ask(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        if node not in self._nodes:
            raise UsageError(f"there is no node {node}", hint=f"the nodes are {list(self._nodes)}")
        message.metadata.run_id = self.run.run_id
        try:
            reply = self.handler(message)
        except Exception as raised:
            code, kind = ErrorCode.CLIENT_APP_RAISED_EXCEPTION, type(raised).__name__
            reply = Message(Error(code, str(raised), kind=kind), reply_to=message)
        if reply is not None and reply.has_error():
            self.run.fail(node, reply.error, message.metadata.message_type)
        return reply
