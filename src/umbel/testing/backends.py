"""The check that needs real workers: the same bits wherever the clients run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from umbel.records import Context
from umbel.serverapp import Grid, Result, ServerApp, Strategy
from umbel.simulation import run_simulation
from umbel.testing.bits import bits
from umbel.testing.clients import Federation


def same_bits_on_backends(make: Callable[[], Strategy], federation: Federation) -> None:
    """Assert that a run in one process and runs on 1 and 2 workers end in the same bits."""
    expected = _run(make, federation, "inprocess", None)
    for workers in (1, 2):
        assert _run(make, federation, "processes", workers) == expected, (
            f"{workers} worker processes give other bits than one process. Let the aggregator pass "
            f"umbel.testing.aggregator_checks(), and sum nothing in the order of arrival."
        )


def _run(
    make: Callable[[], Strategy], federation: Federation, backend: str, workers: int | None
) -> Any:
    """Return the bits of the model and of the metrics by round."""
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> Result:
        return make().start(grid, federation.arrays, num_rounds=2)

    result = run_simulation(
        server,
        federation.app,
        federation.nodes,
        backend,
        {} if workers is None else {"workers": workers},
        seed=7,
        run_config={"lr": 0.125},
    )
    return bits([result.arrays, result.train_metrics_clientapp, result.evaluate_metrics_clientapp])
