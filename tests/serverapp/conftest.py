"""A model of two numbers, clients that add one to it, and an ear for events."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest

from umbel.records import ArrayRecord, Context, Message, MetricRecord, RecordDict
from umbel.serverapp import RunEvent

Client = Callable[[Message, Context], RecordDict]


class Events(list[tuple[str, dict[str, Any]]]):
    """An observer that keeps what it hears."""

    def __call__(self, event: RunEvent) -> None:
        self.append((event.name, event.data))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [data for event, data in self if event == name]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def initial() -> ArrayRecord:
    return ArrayRecord({"w": np.zeros(2, np.float32)})


@pytest.fixture
def plus_one() -> Client:
    """Return a client that adds one to the model and reports what it then is."""

    def run(message: Message, context: Context) -> RecordDict:
        arrays = ArrayRecord({"w": message.content["arrays"]["w"].view() + 1})
        metrics = {"num-examples": 1, "value": float(arrays["w"].view()[0])}
        return RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})

    return run


@pytest.fixture
def failing_on(plus_one: Client) -> Callable[..., Client]:
    """Return a function that makes a client fail on some nodes, in one phase of some rounds."""

    def make(
        nodes: Collection[int], phase: str = "train", rounds: Collection[int] = range(100)
    ) -> Client:
        def run(message: Message, context: Context) -> RecordDict:
            config = message.content["config"]
            is_now = message.metadata.message_type == phase and config["server-round"] in rounds
            if is_now and context.node_id in nodes:
                raise OSError(f"disk of node {context.node_id} is full")
            return plus_one(message, context)

        return run

    return make
