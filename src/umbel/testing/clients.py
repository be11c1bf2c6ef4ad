"""Clients for checks of strategies: a small model, and an app whose learning can be turned off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from umbel.clientapp import ClientApp
from umbel.records import ArrayRecord, Context, Message, MetricRecord, RecordDict
from umbel.serverapp import Run
from umbel.testing.cases import BFLOAT16
from umbel.testing.fakegrid import FakeGrid

Wrap = Callable[[Message, Message], Message | None]
"""``wrap(message, reply)`` gives what arrives in place of a client's reply."""


def sample_arrays() -> ArrayRecord:
    """Return a model of what real ones hold: floats of several widths, a counter, a mask.

    Its numbers are multiples of a quarter, so that a mean of equal models has no rounding error.
    """
    return ArrayRecord(
        {
            "w": np.arange(-1, 2, 0.5, dtype=np.float32).reshape(2, 3),
            "wide": np.array([0.5, -0.25]),
            "half": np.array([0.5, 1.5], BFLOAT16),
            "scale": np.array(1.5, np.float32),
            "none": np.zeros((0, 2), np.float32),
            "steps": np.array(8),
            "mask": np.array([1, 0, 1], np.uint8),
        }
    )


def sample_app() -> ClientApp:
    """Return clients that move the model each its own way, by ``run_config["lr"]`` in length."""
    app = ClientApp()
    app.train()(_train)
    app.evaluate()(_evaluate)
    return app


def _train(message: Message, context: Context) -> Message:
    place, lr = int(context.node_config["partition-id"]), float(context.run_config["lr"])
    server_round = int(message.content["config"]["server-round"])  # type: ignore[arg-type]
    arrays = {}
    for key, value in message.content["arrays"].views().items():  # type: ignore[union-attr]
        if value.dtype.kind in "iub":
            arrays[key] = value + (np.asarray(place, value.dtype) if lr else np.zeros_like(value))
            continue
        pull = np.sin(np.arange(value.size) + 3.0 * place + server_round).reshape(value.shape)
        arrays[key] = (value + lr * pull).astype(value.dtype)
    metrics = MetricRecord({"num-examples": 1 + place % 3, "loss": 1 / (1 + place)})
    named = ArrayRecord({key: np.asarray(value) for key, value in arrays.items()})
    return Message(RecordDict({"arrays": named, "metrics": metrics}), reply_to=message)


def _evaluate(message: Message, context: Context) -> Message:
    place = int(context.node_config["partition-id"])
    first = next(iter(message.content["arrays"].views().values()))  # type: ignore[union-attr]
    metrics = {"num-examples": 2 + place % 2, "loss": float(np.abs(first).sum())}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


@dataclass
class Federation:
    """Clients, a model, and the grids that join them to a strategy under check.

    Attributes
    ----------
    app : ClientApp
        The clients.
    arrays : ArrayRecord
        The model that a run begins with.
    nodes : int
        How many clients there are.
    grows : bool
        Whether arrays may change their sizes.
    """

    app: ClientApp = field(default_factory=sample_app)
    arrays: ArrayRecord = field(default_factory=sample_arrays)
    nodes: int = 7
    grows: bool = False

    def grid(
        self, nodes: int | None = None, *, lr: float = 0.125, wrap: Wrap | None = None
    ) -> FakeGrid:
        """Return a grid of this app's clients, new ones with empty states."""
        count = self.nodes if nodes is None else nodes
        run = Run(run_id="check", run_config={"lr": lr}, simulated=True)
        contexts = [
            Context(
                "check",
                node,
                {"partition-id": node, "num-partitions": count},
                RecordDict(),
                {"lr": lr},
                simulated=True,
            )
            for node in range(count)
        ]

        def handler(message: Message) -> Message | None:
            reply = self.app(message, contexts[message.metadata.dst_node_id])
            return reply if wrap is None else wrap(message, reply)

        return FakeGrid(handler, count, run)
