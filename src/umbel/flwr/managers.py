"""The older API's view of the nodes: proxies, their manager, and criteria."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from logging import INFO
from typing import Any

from umbel.base import ROUND_TIMEOUT_S, NotEnoughNodes, RoundError, UsageError, global_sample
from umbel.flwr.instructions import (
    MESSAGE_TYPES,
    DisconnectRes,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Properties,
    ReconnectIns,
    pack,
    unpack,
)
from umbel.flwr.logs import log
from umbel.records import Message
from umbel.serverapp import Grid

_ANSWERS: dict[type, type] = {
    FitIns: FitRes,
    EvaluateIns: EvaluateRes,
    GetPropertiesIns: GetPropertiesRes,
    GetParametersIns: GetParametersRes,
}


class ClientProxy(ABC):
    """A client as the server sees it."""

    node_id: int = -1

    def __init__(self, cid: str) -> None:
        self.cid = cid
        self.properties: Properties = {}

    @abstractmethod
    def get_properties(
        self, ins: GetPropertiesIns, timeout: float | None, group_id: int | None
    ) -> GetPropertiesRes:
        """Return facts about the node."""

    @abstractmethod
    def get_parameters(
        self, ins: GetParametersIns, timeout: float | None, group_id: int | None
    ) -> GetParametersRes:
        """Return the client's model."""

    @abstractmethod
    def fit(self, ins: FitIns, timeout: float | None, group_id: int | None) -> FitRes:
        """Let the client train."""

    @abstractmethod
    def evaluate(
        self, ins: EvaluateIns, timeout: float | None, group_id: int | None
    ) -> EvaluateRes:
        """Let the client evaluate."""

    @abstractmethod
    def reconnect(
        self, ins: ReconnectIns, timeout: float | None, group_id: int | None
    ) -> DisconnectRes:
        """Ask the client to leave and come back."""


class GridProxy(ClientProxy):
    """A node of a grid."""

    def __init__(self, grid: Grid, node_id: int) -> None:
        super().__init__(str(node_id))
        self.grid = grid
        self.node_id = node_id

    def get_properties(
        self, ins: GetPropertiesIns, timeout: float | None = None, group_id: int | None = None
    ) -> GetPropertiesRes:
        answer: GetPropertiesRes = self._ask(ins, timeout, group_id)
        return answer

    def get_parameters(
        self, ins: GetParametersIns, timeout: float | None = None, group_id: int | None = None
    ) -> GetParametersRes:
        answer: GetParametersRes = self._ask(ins, timeout, group_id)
        return answer

    def fit(self, ins: FitIns, timeout: float | None = None, group_id: int | None = None) -> FitRes:
        answer: FitRes = self._ask(ins, timeout, group_id)
        return answer

    def evaluate(
        self, ins: EvaluateIns, timeout: float | None = None, group_id: int | None = None
    ) -> EvaluateRes:
        answer: EvaluateRes = self._ask(ins, timeout, group_id)
        return answer

    def reconnect(
        self, ins: ReconnectIns, timeout: float | None = None, group_id: int | None = None
    ) -> DisconnectRes:
        return DisconnectRes("a simulated node stays connected")

    def message(self, ins: Any, group_id: int | None) -> Message:
        """Return the message that carries a request to this node."""
        group = "" if group_id is None else str(group_id)
        return Message(pack(ins), self.node_id, MESSAGE_TYPES[type(ins)], group_id=group)

    def _ask(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        replies = list(self.grid.send_and_receive([self.message(ins, group_id)], timeout=timeout))
        if not replies:
            raise RoundError(f"no reply within {timeout:g} s", node=self.node_id)
        return read_answer(replies[0], ins)


def read_answer(reply: Message, ins: Any) -> Any:
    """Return the answer that a reply carries.

    Raises
    ------
    RoundError
        It carries an error.
    """
    if not reply.has_content():
        raise RoundError(str(reply.error), node=reply.metadata.src_node_id)
    return unpack(reply.content, _ANSWERS[type(ins)])


class Criterion(ABC):
    """Says which clients may be drawn."""

    @abstractmethod
    def select(self, client: ClientProxy) -> bool:
        """Return whether this client may be drawn."""


class ClientManager(ABC):
    """Holds the clients that are connected and draws from them."""

    @abstractmethod
    def num_available(self) -> int:
        """Return how many clients are connected."""

    @abstractmethod
    def register(self, client: ClientProxy) -> bool:
        """Add a client; False if it is there already."""

    @abstractmethod
    def unregister(self, client: ClientProxy) -> None:
        """Remove a client."""

    @abstractmethod
    def all(self) -> dict[str, ClientProxy]:
        """Return all clients by name."""

    @abstractmethod
    def wait_for(self, num_clients: int, timeout: int) -> bool:
        """Return whether so many clients are connected, waiting for them."""

    @abstractmethod
    def sample(
        self,
        num_clients: int,
        min_num_clients: int | None = None,
        criterion: Criterion | None = None,
    ) -> list[ClientProxy]:
        """Draw clients without replacement."""


class SimpleClientManager(ClientManager):
    """Draws uniformly, with the module ``random``."""

    _grid: Grid | None = None

    def __init__(self) -> None:
        self.clients: dict[str, ClientProxy] = {}

    def __len__(self) -> int:
        return len(self.clients)

    def follow(self, grid: Grid) -> None:
        """Hold the nodes of a grid from now on: those that come, and no more those that go."""
        self._grid = grid
        self._look()

    def num_available(self) -> int:
        self._look()
        return len(self)

    def register(self, client: ClientProxy) -> bool:
        if client.cid in self.clients:
            return False
        self.clients[client.cid] = client
        return True

    def unregister(self, client: ClientProxy) -> None:
        self.clients.pop(client.cid, None)

    def all(self) -> dict[str, ClientProxy]:
        self._look()
        return self.clients

    def wait_for(self, num_clients: int, timeout: int = 86400) -> bool:
        self._look()
        missing = num_clients - len(self.clients)
        if missing > 0 and self._grid is not None:
            with suppress(NotEnoughNodes):
                self._grid.wait_for_nodes(len(self._of_grid()) + missing, timeout)
            self._look()
        return len(self.clients) >= num_clients

    def sample(
        self,
        num_clients: int,
        min_num_clients: int | None = None,
        criterion: Criterion | None = None,
    ) -> list[ClientProxy]:
        """Draw clients without replacement; none if there are too few.

        Raises
        ------
        UsageError
            The number is negative.
        """
        if num_clients < 0:
            raise UsageError(f"{num_clients} clients cannot be drawn")
        are_enough = self.wait_for(min_num_clients or num_clients)
        names = [
            cid
            for cid, client in self.clients.items()
            if criterion is None or criterion.select(client)
        ]
        if num_clients > len(names) or not are_enough:
            log(INFO, "%d clients are asked for and %d can be drawn", num_clients, len(names))
            return []
        return [self.clients[cid] for cid in global_sample(names, num_clients)]

    def _of_grid(self) -> dict[int, GridProxy]:
        found = (client for client in self.clients.values() if isinstance(client, GridProxy))
        return {proxy.node_id: proxy for proxy in found}

    def _look(self) -> None:
        """Register who has come, and unregister who has gone."""
        if self._grid is None:
            return
        known, nodes = self._of_grid(), self._grid.get_node_ids()
        for node in nodes:
            if int(node) not in known:
                self.register(GridProxy(self._grid, int(node)))
        for node in known.keys() - set(nodes):
            self.unregister(known[node])


def register_nodes(grid: Grid, manager: ClientManager, strategy: object) -> None:
    """Let a manager have the nodes of a grid.

    One of the app's own has those that are there at the beginning, once there are as many as the
    strategy wants.
    """
    if isinstance(manager, SimpleClientManager):
        manager.follow(grid)
        return
    least = getattr(strategy, "min_available_clients", 1)
    with suppress(NotEnoughNodes):
        grid.wait_for_nodes(least, ROUND_TIMEOUT_S)
    for node in grid.get_node_ids():
        manager.register(GridProxy(grid, int(node)))


Instructions = Sequence[tuple[ClientProxy, Any]]


def ask_all(
    instructions: Instructions, timeout: float | None, group_id: int
) -> tuple[list[tuple[ClientProxy, Any]], list[Any]]:
    """Send every client its request; return the answers and, in place of others, exceptions."""
    results: list[tuple[ClientProxy, Any]] = []
    failures: list[Any] = []
    nodes = [(proxy, ins) for proxy, ins in instructions if isinstance(proxy, GridProxy)]
    for proxy, ins in instructions:
        if isinstance(proxy, GridProxy):
            continue
        # A proxy of the app's own: it alone knows how to reach its client.
        method = proxy.fit if isinstance(ins, FitIns) else proxy.evaluate
        try:
            results.append((proxy, method(ins, timeout, group_id)))
        except Exception as error:
            failures.append(error)
    if nodes:
        _ask_nodes(nodes, timeout, group_id, results, failures)
    return results, failures


def _ask_nodes(
    nodes: Sequence[tuple[GridProxy, Any]],
    timeout: float | None,
    group_id: int,
    results: list[tuple[ClientProxy, Any]],
    failures: list[Any],
) -> None:
    grid = nodes[0][0].grid
    contents: dict[int, Any] = {}
    messages = []
    for proxy, ins in nodes:
        # One request for all is packed once, so that its arrays are sent once.
        if id(ins) not in contents:
            contents[id(ins)] = proxy.message(ins, group_id).content
        kind = MESSAGE_TYPES[type(ins)]
        messages.append(Message(contents[id(ins)], proxy.node_id, kind, group_id=str(group_id)))
    replies = grid.send_and_receive(messages, timeout=timeout)
    # Only now: a grid of the network names messages as it sends them.
    by_id = {m.metadata.message_id: pair for m, pair in zip(messages, nodes, strict=True)}
    for reply in replies:
        proxy, ins = by_id.pop(reply.metadata.reply_to_message_id)
        try:
            results.append((proxy, read_answer(reply, ins)))
        except Exception as error:
            failures.append(error)
    failures += [RoundError("no reply in time", node=proxy.node_id) for proxy, _ in by_id.values()]
