"""Who was chosen by chance alone: the sampling that privacy accounting may count on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from umbel.base import ConfigError
from umbel.privacy import FixedSize, NoAmplification, Poisson, Sampling
from umbel.records import Message, MessageType
from umbel.serverapp import FractionSampler, Grid, PoissonSampler, Replies, Run, Strategy


class SameNodes(Grid):
    """A grid whose nodes stay those that it had when they were first asked for.

    So a sampler that is asked twice in a round chooses twice from the same. Nodes cannot be asked
    anything, for what they say may follow from their data.

    Parameters
    ----------
    grid : Grid
        Does all the rest.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._nodes: Sequence[int] | None = None

    @property
    def run(self) -> Run:
        return self._grid.run

    def get_node_ids(self) -> Sequence[int]:
        if self._nodes is None:
            self._nodes = self._grid.get_node_ids()
        return self._nodes

    def wait_for_nodes(self, count: int, timeout_s: float) -> Sequence[int]:
        if self._nodes is None or len(self._nodes) < count:
            self._nodes = self._grid.wait_for_nodes(count, timeout_s)
        return self._nodes

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        raise _asked()

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Replies:
        raise _asked()


def _asked() -> ConfigError:
    return ConfigError(
        "the strategy asks clients something before it chooses among them, so that one client's "
        "data may change whose updates are summed",
        hint="choose nodes without a look at their data",
    )


def enforced_sampling(
    strategy: Strategy, messages: Sequence[Message], grid: SameNodes, server_round: int
) -> Sampling:
    """Return how the nodes of a round of training were drawn, after checking that they were so.

    A ``PoissonSampler`` draws by Poisson; a ``FractionSampler`` of less than all draws so many of
    all that are connected. Of any other choice nothing is known, and no chance is counted on.

    Raises
    ------
    ConfigError
        The messages do not go to those whom the sampler chose; or one node gets two of them, and
        would count twice.
    """
    nodes = [message.metadata.dst_node_id for message in messages]
    if len(set(nodes)) < len(nodes):
        raise ConfigError(
            "a node gets two messages in one round, so its data would count twice",
            hint="send each node one message a round",
            round=server_round,
        )
    sampler = strategy.sampler(MessageType.TRAIN)
    by_poisson = type(sampler) is PoissonSampler
    in_part = type(sampler) is FractionSampler and 0 < sampler.fraction < 1
    if sampler is None or not (by_poisson or in_part):
        return NoAmplification()
    chosen = sampler(grid, strategy.drawing_seeds(grid.run, server_round, MessageType.TRAIN))
    if sorted(chosen) != sorted(nodes):
        raise ConfigError(
            f"{type(strategy).__name__} sends to other nodes than {sampler!r} chose, so the "
            "sampling that privacy is accounted with is not what happens",
            hint="leave the choice to the sampler alone, or write it as a sampler of your own: "
            "then no chance is counted on",
            round=server_round,
        )
    if isinstance(sampler, PoissonSampler):
        return Poisson(sampler.rate)
    return FixedSize(len(nodes), len(grid.get_node_ids()))
