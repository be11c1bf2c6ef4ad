"""``ServerApp`` in either API, and the older one's workflow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from umbel import serverapp
from umbel.base import UsageError
from umbel.flwr.history import History
from umbel.flwr.managers import ClientManager, SimpleClientManager, register_nodes
from umbel.flwr.old_server import Server, ServerConfig
from umbel.flwr.old_strategy import Strategy
from umbel.records import Context
from umbel.serverapp import Grid


@dataclass
class ServerAppComponents:
    """What a server of the older API is made of; what is left out takes its default."""

    server: Server | None = None
    config: ServerConfig | None = None
    strategy: Strategy | None = None
    client_manager: ClientManager | None = None


class ServerApp(serverapp.ServerApp):
    """Umbel's server app; it also takes the components of the older API.

    Parameters
    ----------
    server, config, strategy, client_manager : optional
        The components themselves.
    server_fn : callable, optional
        ``server_fn(context) -> ServerAppComponents``; the others must then be left out.

    Raises
    ------
    UsageError
        Both are given; or, when the app runs, it has a ``main`` function as well.
    """

    def __init__(
        self,
        server: Server | None = None,
        config: ServerConfig | None = None,
        strategy: Strategy | None = None,
        client_manager: ClientManager | None = None,
        server_fn: Callable[[Context], ServerAppComponents] | None = None,
    ) -> None:
        super().__init__()
        given = ServerAppComponents(server, config, strategy, client_manager)
        has_parts = given != ServerAppComponents()
        if server_fn is not None and has_parts:
            raise UsageError(
                "server_fn and components were both given",
                hint="let server_fn return ServerAppComponents with all of them",
            )
        if server_fn is not None or has_parts:

            def serve(grid: Grid, context: Context) -> History:
                parts = given if server_fn is None else server_fn(context)
                return run_rounds(grid, parts)

            self.main()(serve)


def run_rounds(grid: Grid, parts: ServerAppComponents) -> History:
    """Run a server of the older API over a grid.

    Raises
    ------
    UsageError
        The components are not ``ServerAppComponents``.
    """
    if not isinstance(parts, ServerAppComponents):
        raise UsageError(
            f"server_fn returned {type(parts).__name__}",
            hint="return ServerAppComponents(config=..., strategy=...)",
        )
    server = parts.server
    if server is None:
        manager = parts.client_manager or SimpleClientManager()
        server = Server(client_manager=manager, strategy=parts.strategy)
    config = parts.config or ServerConfig()
    server.run = grid.run
    register_nodes(grid, server.client_manager(), server.strategy)
    history, _ = server.fit(config.num_rounds, config.round_timeout)
    return history


class LegacyContext(Context):
    """A context with the components of the older API, for a ``DefaultWorkflow``."""

    def __init__(
        self,
        context: Context,
        config: ServerConfig | None = None,
        strategy: Strategy | None = None,
        client_manager: ClientManager | None = None,
    ) -> None:
        super().__init__(
            context.run_id,
            context.node_id,
            context.node_config,
            context.state,
            context.run_config,
            context.series_id,
        )
        self.config = config or ServerConfig()
        self.strategy = strategy
        self.client_manager = client_manager or SimpleClientManager()
        self.history = History()
