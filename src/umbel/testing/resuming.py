"""The check that a strategy's run which is cut off goes on as if nothing had happened."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from umbel.base import Seeds
from umbel.serverapp import Result, Run, RunEvent, Strategy
from umbel.testing.bits import bits
from umbel.testing.clients import Federation
from umbel.testing.fakegrid import FakeGrid

_ROUNDS = 3


class _CutOff(Exception):
    """Ends a run where its machine would have lost power."""


def a_run_is_resumed(make: Callable[[], Strategy], federation: Federation) -> None:
    """Assert that a run that is cut off between any two rounds ends with the same bits."""
    whole = federation.grid()
    whole.run.seeds = Seeds(7)
    wanted = _outcome(make().start(whole, federation.arrays, num_rounds=_ROUNDS))
    for cut in range(1, _ROUNDS):
        with tempfile.TemporaryDirectory(prefix="umbel-check-") as folder:
            found = _outcome(_cut_and_resumed(make, federation, Path(folder), cut))
        wrong = [name for name in wanted if found[name] != wanted[name]]
        assert not wrong, (
            f"a run that was cut off after round {cut} and resumed has another result: {wrong}. "
            f"Put into state_dict() whatever the next round depends on, besides the model."
        )


def _cut_and_resumed(
    make: Callable[[], Strategy], federation: Federation, folder: Path, cut: int
) -> Result:
    def watch(event: RunEvent) -> None:
        if event.name == "round_started" and event.data["round"] == cut + 1:
            raise _CutOff

    nodes = federation.grid()
    config = nodes.run.run_config
    first = Run("check", Seeds(7), config, folder, [watch], resumable=True, simulated=True)
    first.log.append("run_started", run_id="check", seed=7, run_config=config)
    try:
        _start(make, federation, nodes, first)
    except _CutOff:
        pass
    finally:
        first.close()
    again = Run(folder=folder, resume=True, simulated=True)
    try:
        return _start(make, federation, nodes, again)
    finally:
        again.close()


def _start(
    make: Callable[[], Strategy], federation: Federation, nodes: FakeGrid, run: Run
) -> Result:
    grid = FakeGrid(nodes.handler, nodes.get_node_ids(), run)
    return make().start(grid, federation.arrays, num_rounds=_ROUNDS)


def _outcome(result: Result) -> dict[str, Any]:
    """Return the bits of all that the clock does not decide."""
    return {name: bits(value) for name, value in vars(result).items() if name != "timings"}
