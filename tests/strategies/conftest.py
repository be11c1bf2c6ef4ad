"""A strategy over a function, and clients that move one array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from umbel.base import Seeds
from umbel.records import ArrayRecord, Message, MetricRecord, RecordDict
from umbel.serverapp import Result, Run, Strategy
from umbel.testing import FakeGrid

Client = Callable[[Message], RecordDict]


@pytest.fixture(scope="session")
def moving() -> Callable[..., Client]:
    """Return a function that makes a client which adds ``change(node)`` to the array "w"."""

    def make(change: Callable[[int], Any], **metrics: Any) -> Client:
        def client(message: Message) -> RecordDict:
            node = message.metadata.dst_node_id
            arrays = {k: a.numpy() for k, a in message.content.array_records["arrays"].items()}
            arrays["w"] = arrays["w"] + np.asarray(change(node), arrays["w"].dtype)
            told = MetricRecord({"num-examples": 1, **metrics})
            content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": told})
            asked = message.content.config_records.get("dp", {})
            if "steps" in asked:  # for private training; this client says that it was done
                content["dp"] = asked
            return content

        return client

    return make


@pytest.fixture(scope="session")
def learn() -> Callable[..., tuple[Result, Run]]:
    """Return a function that runs a strategy over a client, without any workers."""

    def run(
        strategy: Strategy,
        client: Client,
        initial: ArrayRecord,
        *,
        nodes: int = 4,
        run: Run | None = None,
        rounds: int = 1,
        **options: Any,
    ) -> tuple[Result, Run]:
        def handler(message: Message) -> Message:
            return Message(client(message), reply_to=message)

        grid = FakeGrid(handler, nodes, run or Run(seeds=Seeds(7), simulated=True))
        return strategy.start(grid, initial, num_rounds=rounds, **options), grid.run

    return run
