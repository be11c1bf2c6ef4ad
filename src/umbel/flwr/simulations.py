"""Simulations, called as Flower's are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from umbel import simulation
from umbel.base import UsageError, environment
from umbel.flwr.client_app import ClientApp
from umbel.flwr.history import History
from umbel.flwr.logs import logger
from umbel.flwr.managers import ClientManager
from umbel.flwr.old_server import Server, ServerConfig
from umbel.flwr.old_strategy import Strategy
from umbel.flwr.server_app import ServerApp

SETUP = "umbel.flwr:install"
_DEBUG = 10


def run_simulation(
    server_app: Any,
    client_app: Any,
    num_supernodes: int,
    backend_name: str = "ray",
    backend_config: Mapping[str, Any] | None = None,
    enable_tf_gpu_growth: bool = False,
    verbose_logging: bool = False,
) -> Any:
    """Run a federation and return what the server app returned: a ``Result`` or a ``History``.

    Parameters
    ----------
    server_app, client_app : ServerApp, ClientApp
        The apps.
    num_supernodes : int
        How many virtual nodes there are.
    backend_name : str
        ``"ray"``, which every app of Flower names, runs in Umbel's own worker processes: the
        outcome is the same and comes sooner. ``umbel run APP --backend ray`` takes Ray itself.
    backend_config : mapping, optional
        ``client_resources`` and ``init_args``; others are taken and not used.
    enable_tf_gpu_growth : bool
        Let TensorFlow take memory of a GPU as it needs it.
    verbose_logging : bool
        Log more.
    """
    if verbose_logging:
        logger.setLevel(_DEBUG)
    if enable_tf_gpu_growth:
        _let_tensorflow_grow()
    given = dict(backend_config or {})
    known = {"client_resources", "init_args"}
    config = {key: value for key, value in given.items() if key in known}
    return simulation.run_simulation(
        server_app,
        client_app,
        num_supernodes,
        "inprocess" if backend_name == "inprocess" else "processes",
        config,
        setup=SETUP,
    )


def _let_tensorflow_grow() -> None:
    from umbel.base import set_environment

    if "TF_FORCE_GPU_ALLOW_GROWTH" not in environment():
        set_environment({"TF_FORCE_GPU_ALLOW_GROWTH": "true"})


def start_simulation(
    *,
    client_fn: Callable[..., Any],
    num_clients: int,
    clients_ids: list[str] | None = None,
    client_resources: Mapping[str, float] | None = None,
    server: Server | None = None,
    config: ServerConfig | None = None,
    strategy: Strategy | None = None,
    client_manager: ClientManager | None = None,
    ray_init_args: Mapping[str, Any] | None = None,
    **unused: Any,
) -> History:
    """Run a federation of the older API and return its ``History``.

    Parameters
    ----------
    client_fn : callable
        ``client_fn(context)`` or ``client_fn(cid)``.
    num_clients : int
        How many virtual clients there are.
    client_resources : mapping, optional
        ``num_cpus`` and ``num_gpus`` of one client.
    server, config, strategy, client_manager : optional
        The components of the server.
    ray_init_args : mapping, optional
        ``num_cpus`` and ``num_gpus`` bound the workers.
    **unused
        Arguments about Ray's actors, which Umbel has no use for.

    Raises
    ------
    UsageError
        ``clients_ids`` are given.
    """
    if clients_ids is not None:
        raise UsageError("clients have no names of their own", hint="give num_clients alone")
    resources: dict[str, Any] = {}
    if client_resources:
        resources["client_resources"] = dict(client_resources)
    if ray_init_args:
        resources["init_args"] = dict(ray_init_args)
    parts = {
        "server": server,
        "config": config or ServerConfig(),
        "strategy": strategy,
        "client_manager": client_manager,
    }
    history: History = run_simulation(
        ServerApp(**parts),  # type: ignore[arg-type]
        ClientApp(client_fn=client_fn),
        num_clients,
        backend_config=resources,
    )
    return history
