"""How all tests are run, and a whole federation in one call for those of what runs on it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest

import umbel
from umbel.records import ArrayRecord, Context, Message, RecordDict
from umbel.serverapp import Grid, Result, Strategy

# Where tests are started in the background SIGINT is ignored, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is no mistake.
hypothesis.settings.register_profile("umbel", deadline=None)
hypothesis.settings.load_profile("umbel")

Client = Callable[[Message, Context], RecordDict]


@pytest.fixture
def federate() -> Callable[..., Any]:
    """Return a function that runs a strategy over clients and returns its ``Result``.

    ``client`` answers both kinds of messages; ``main`` is told when it is to be other than one
    call of ``strategy.start``.
    """

    def run(
        strategy: Strategy,
        client: Client,
        *,
        initial: ArrayRecord | None = None,
        nodes: int = 4,
        backend: str = "inprocess",
        seed: int = 7,
        main: Callable[[Grid, Context], Any] | None = None,
        simulation: dict[str, Any] | None = None,
        **start: Any,
    ) -> Any:
        server_app, client_app = umbel.ServerApp(), umbel.ClientApp()

        def answer(message: Message, context: Context) -> Message:
            return Message(client(message, context), reply_to=message)

        client_app.train()(answer)
        client_app.evaluate()(answer)

        def learn(grid: Grid, context: Context) -> Result:
            return strategy.start(grid, initial, **start)

        server_app.main()(main or learn)
        simulation = dict(simulation or {})
        return umbel.run_simulation(
            server_app, client_app, nodes, backend_name=backend, seed=seed, **simulation
        )

    return run
