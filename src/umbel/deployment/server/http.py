"""The HTTP port: ``/healthz``, ``/readyz`` and Prometheus' ``/metrics``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from umbel.base import ConfigError


def http_app(registry: CollectorRegistry, not_ready: Callable[[], str | None]) -> Starlette:
    """Return the application that answers the three paths.

    Parameters
    ----------
    registry : CollectorRegistry
        What ``/metrics`` shows.
    not_ready : callable
        Says why the server takes no work now, if it takes none.
    """

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        reason = not_ready()
        return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )


class HttpServer:
    """Serves an application until it is closed."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        config = uvicorn.Config(app, host, port, log_level="warning", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        ConfigError
            The port cannot be listened on.
        """
        config = self._server.config
        host = config.host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, config.port), family=family)
        except OSError as error:
            reason = str(error.strerror).partition(" (")[0]
            raise ConfigError(
                f"the HTTP port {config.host}:{config.port} cannot be listened on: {reason}",
                hint="choose another: --http-port",
            ) from error
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._task = asyncio.create_task(self._server._serve([listening]))
        while not self._server.started:
            if self._task.done():
                await self._task
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
