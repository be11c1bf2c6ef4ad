"""Runs of ``apps/sim_app.py``, whose clients behave as a test tells them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from umbel.records import ArrayRecord, ConfigRecord, Message, RecordDict, encode
from umbel.serverapp import Grid, Result, ServerApp
from umbel.simulation import run_simulation
from umbel.strategies import FedAvg

collect_ignore = ["apps"]  # no tests, but what tests run

APPS = Path(__file__).parent / "apps"


@pytest.fixture(scope="session")
def apps() -> Path:
    """The folder of the test apps."""
    return APPS


@pytest.fixture(scope="session")
def run_main() -> Callable[..., Any]:
    """``run_main(main, nodes, backend, workers=..., ...)``: what a server's main returns."""

    def run(
        main: Callable[[Grid], Any],
        nodes: int = 10,
        backend: str = "processes",
        *,
        client_app: Any = "sim_app:app",
        seed: int | None = 5,
        run: dict[str, Any] | None = None,
        **backend_config: Any,
    ) -> Any:
        server = ServerApp()
        server.main()(lambda grid, context: main(grid))
        backend_config.setdefault("workers", 2)
        if backend == "inprocess":
            del backend_config["workers"]  # it has one
        return run_simulation(
            server,
            client_app,
            nodes,
            backend,
            backend_config,
            seed=seed,
            app_dir=APPS,
            **(run or {}),
        )

    return run


@pytest.fixture(scope="session")
def learn(run_main: Callable[..., Any]) -> Callable[..., Result]:
    """``learn(do, nodes, backend, victims=[...], rounds=..., ...)``: FedAvg over such clients."""

    def run(
        do: str = "learn",
        nodes: int = 10,
        backend: str = "processes",
        *,
        victims: Iterable[int] = (),
        rounds: int = 2,
        items: int = 50,
        timeout: float = 60.0,
        strategy: FedAvg | None = None,
        **options: Any,
    ) -> Result:
        def main(grid: Grid) -> Result:
            arrays = {"w": np.zeros(items, np.float32), "b": np.zeros((2, 3), np.float32)}
            some = min(2, nodes)
            return (
                strategy or FedAvg(fraction_evaluate=0, min_train_nodes=1, min_available_nodes=some)
            ).start(
                grid,
                ArrayRecord(arrays),
                num_rounds=rounds,
                timeout=timeout,
                train_config=ConfigRecord({"do": do, "nodes": list(victims)}),
            )

        return run_main(main, nodes, backend, **options)

    return run


@pytest.fixture(scope="session")
def digest() -> Callable[[Result], str]:
    """The bits of a result: its model and its metrics."""

    def bits(result: Result) -> str:
        hasher = hashlib.sha256()
        for part in encode(RecordDict({"arrays": result.arrays})):
            hasher.update(part)
        for server_round, metrics in result.train_metrics_clientapp.items():
            hasher.update(repr((server_round, dict(metrics))).encode())
        return hasher.hexdigest()

    return bits


@pytest.fixture(scope="session")
def told() -> Callable[[Result], list[tuple[int, int, str]]]:
    """The failures of a result as (round, node, kind), in order."""

    def facts(result: Result) -> list[tuple[int, int, str]]:
        return sorted((f.server_round, f.node_id, f.kind) for f in result.failures)

    return facts


@pytest.fixture(scope="session")
def requests() -> Callable[..., list[Message]]:
    """``requests(nodes, type, key=value)``: one message a node with such a config."""

    def make(to: Iterable[int], message_type: str = "query", **config: Any) -> list[Message]:
        return [
            Message(RecordDict({"config": ConfigRecord(config)}), node, message_type) for node in to
        ]

    return make
