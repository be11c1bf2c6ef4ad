"""The one seam between a strategy and wherever the clients run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from umbel.base import ConfigError, NotEnoughNodes, RejectedReply
from umbel.records import ArrayRecord, Error, ErrorCode, Message, RecordDict
from umbel.serverapp.checkpoint import StoredArrays
from umbel.serverapp.frozen import frozen_copy
from umbel.serverapp.replies import Replies
from umbel.serverapp.run import Run
from umbel.updates import Aggregator, PartialSums, add_member


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
        places = {message.metadata.message_id: n for n, message in enumerate(messages)}
        sums: PartialSums[Any] = PartialSums(len(messages), aggregator.merge)
        failures: dict[int, Error] = {}
        for reply in self.send_and_receive(messages, timeout=timeout).each_once():
            place = places.pop(reply.metadata.reply_to_message_id)
            rejection = add_member(
                sums, aggregator, place, reply.content if reply.has_content() else None
            )
            if reply.has_error():
                failures[place] = reply.error
            if rejection is not None:
                failures[place] = rejected(rejection)
                self.run.fail(messages[place].metadata.dst_node_id, failures[place])
            # Let go of it before the next one is made.
            del reply
        for place in places.values():
            sums.put((place, place + 1), None)
            failures[place] = no_reply(timeout)
        count, total = len(messages) - len(failures), sums.total()
        value = None if total is None or count < needed else aggregator.finish(total)
        nodes = [message.metadata.dst_node_id for message in messages]
        return Folded(value, count, [(nodes[n], error) for n, error in sorted(failures.items())])

    def publish(self, arrays: ArrayRecord) -> ArrayRecord:
        """Fix a global model, before the first message that carries it is made.

        Returns
        -------
        ArrayRecord
            The same values in arrays that nobody changes. They are what messages, ``evaluate_fn``
            and checkpoints see; the round loop keeps no others. Here they are arrays in memory,
            those of ``arrays`` where these are frozen. A grid that stores models may write them
            there, and return read-only views of what it has stored.
        """
        return frozen_copy(arrays)

    def stored(self, arrays: ArrayRecord) -> StoredArrays | None:
        """Return the file that holds these arrays, which ``publish`` returned, if there is one.

        A checkpoint links it then, and does not write them again.
        """
        return None

    def checkpointed(self) -> None:  # noqa: B027 - most grids need not hear it
        """Hear that a checkpoint of all rounds so far is on the disk, and named by the run log.

        Replies to messages sent before are never asked for again. Here it does nothing.
        """

    def state_dict(self) -> RecordDict:
        """Return what a checkpoint must hold of this grid, such as the states of its nodes.

        Nothing here: real nodes keep their own.
        """
        return RecordDict()

    def load_state_dict(self, state: RecordDict) -> None:
        """Go on from what ``state_dict`` returned."""
        if len(state):
            raise ConfigError(
                f"{type(self).__name__} keeps no state, and was given {sorted(state)[:5]}",
                hint="resume a run on the kind of grid that it began on",
            )

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
