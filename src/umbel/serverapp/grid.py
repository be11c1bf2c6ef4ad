"""The one seam between a strategy and wherever the clients run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from umbel.base import NotEnoughNodes, RejectedReply
from umbel.records import Error, ErrorCode, Message
from umbel.serverapp.replies import Replies
from umbel.serverapp.run import Run
from umbel.updates import Aggregator, fold


@dataclass
class Folded:
    """What a fold over a cohort gave.

    Attributes
    ----------
    value : object
        The aggregator's outcome; ``None`` when too few replies were usable.
    count : int
        How many replies are in it.
    failures : list of (int, Error)
        The nodes that gave no usable reply, and why.
    """

    value: Any
    count: int
    failures: list[tuple[int, Error]] = field(default_factory=list)


class Grid(ABC):
    """The nodes, and the ways to reach them.

    In one process, in many, on Ray or over the network: what differs lies behind this class and
    nowhere else. A grid tells its run of every client that fails (``run.fail``) as it happens.
    """

    @property
    @abstractmethod
    def run(self) -> Run:
        """The run that this grid serves."""

    @abstractmethod
    def get_node_ids(self) -> Sequence[int]:
        """Return the ids of the nodes that are connected now."""

    @abstractmethod
    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages without waiting; return their ids."""

    @abstractmethod
    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that have come to these messages; each reply is returned once."""

    @abstractmethod
    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Replies:
        """Send messages and return their replies, in order, as they come.

        Parameters
        ----------
        messages : iterable of Message
            What to send.
        timeout : float, optional
            Seconds after which replies that are missing are given up; a reply that came too late
            is lost. A client that failed answers with an error message.
        """

    def fold(
        self,
        messages: Iterable[Message],
        aggregator: Aggregator[Any],
        *,
        timeout: float | None = None,
        needed: int = 1,
    ) -> Folded:
        """Send messages and combine the replies without keeping them.

        Parameters
        ----------
        messages : iterable of Message
            What to send; the order fixes the order of summation.
        aggregator : Aggregator
            How replies are combined; workers may do it where the replies are made.
        timeout : float, optional
            Seconds after which replies that are missing are given up.
        needed : int, default=1
            With fewer usable replies there is no outcome, and no error in making it.

        Raises
        ------
        AggregationError
            The replies do not fit together.
        """
        messages = list(messages)
        replies = {
            reply.metadata.reply_to_message_id: reply
            for reply in self.send_and_receive(messages, timeout=timeout)
        }
        failures: list[tuple[int, Error]] = []
        contents = []
        for message in messages:
            reply = replies.get(message.metadata.message_id)
            usable = reply is not None and reply.has_content()
            contents.append(reply.content if reply is not None and usable else None)
            if not usable:
                error = reply.error if reply is not None else no_reply(timeout)
                failures.append((message.metadata.dst_node_id, error))

        def reject(position: int, error: RejectedReply) -> None:
            node_id = messages[position].metadata.dst_node_id
            failures.append((node_id, rejected(error)))
            self.run.fail(node_id, rejected(error))

        total = fold(aggregator, contents, len(messages), reject)
        count = len(messages) - len(failures)
        value = None if total is None or count < needed else aggregator.finish(total)
        return Folded(value, count, failures)

    def wait_for_nodes(self, count: int, timeout_s: float) -> Sequence[int]:
        """Return the connected nodes once there are at least ``count``.

        Raises
        ------
        NotEnoughNodes
            There are fewer after ``timeout_s`` seconds; at once where none can ever join.
        """
        nodes = self.get_node_ids()
        if len(nodes) < count:
            raise NotEnoughNodes(
                f"{count} nodes are needed and {len(nodes)} exist",
                hint="run with more nodes, or lower fraction_*, min_*_nodes, min_available_nodes",
            )
        return nodes


def no_reply(timeout: float | None) -> Error:
    """Return the error of a node that did not answer in time."""
    waited = "" if timeout is None else f" within {timeout:g} s"
    return Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, f"no reply{waited}", kind="ReplyTimeout")


def rejected(error: RejectedReply) -> Error:
    """Return the error of a node whose reply the aggregator would not have."""
    reason = f"{error.message}. Hint: {error.hint}" if error.hint else error.message
    return Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason, kind=type(error).__name__)
