"""What a strategy hands back after its last round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umbel.privacy import PrivacyStatement
from umbel.records import ArrayRecord, MetricRecord

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Failure:
    """A client that did not give a usable reply.

    Attributes
    ----------
    server_round : int
        The round, from 1; 0 outside of rounds.
    phase : str
        The kind of message: ``"train"``, ``"evaluate"`` or ``"query"``.
    node_id : int
        The node.
    kind : str
        The type of the exception, or the name of the signal that ended its process.
    message : str
        What went wrong.
    traceback : str or None
        Where in the client's code; only in a simulation, since it may show data.
    """

    server_round: int
    phase: str
    node_id: int
    kind: str
    message: str
    traceback: str | None = None


def failure_causes(failures: Iterable[Failure]) -> list[str]:
    """Return the first three causes, each with the nodes that share it.

    Examples
    --------
    >>> failures = [Failure(1, "train", node, "OSError", "disk is full") for node in (3, 5, 8)]
    >>> failure_causes(failures)
    ['node 3 and 2 more: OSError: disk is full']
    """
    nodes_by_cause: dict[str, list[int]] = {}
    for failure in failures:
        cause = f"{failure.kind}: {failure.message}"
        nodes_by_cause.setdefault(cause, []).append(failure.node_id)
    return [
        f"node {nodes[0]}{f' and {len(nodes) - 1} more' if nodes[1:] else ''}: {cause}"
        for cause, nodes in list(nodes_by_cause.items())[:3]
    ]


@dataclass
class RoundTiming:
    """How long the parts of a round took, in seconds."""

    train_s: float = 0.0
    evaluate_s: float = 0.0
    server_evaluate_s: float = 0.0
    total_s: float = 0.0


@dataclass
class Result:
    """The outcome of a strategy's rounds.

    Attributes
    ----------
    arrays : ArrayRecord
        The global model after the last round.
    train_metrics_clientapp, evaluate_metrics_clientapp : dict of int to MetricRecord
        By round, the cohort's aggregated metrics.
    evaluate_metrics_serverapp : dict of int to MetricRecord
        By round, what ``evaluate_fn`` returned; round 0 is the initial model.
    failures : list of Failure
        Every client that gave no usable reply.
    timings : dict of int to RoundTiming
        By round.
    stopped_early : bool
        Whether ``should_stop``, or a privacy budget, ended the rounds before the last one.
    privacy : PrivacyStatement or None
        What the run promises about privacy; ``str(result.privacy)`` says all of it.

    Examples
    --------
    >>> result = Result(evaluate_metrics_clientapp={1: MetricRecord({"loss": 0.5})})
    >>> result.to_rows()
    [{'round': 1, 'phase': 'evaluate', 'metric': 'loss', 'value': 0.5}]
    >>> float(result.to_pandas().loc[1, "evaluate/loss"])
    0.5
    """

    arrays: ArrayRecord = field(default_factory=ArrayRecord)
    train_metrics_clientapp: dict[int, MetricRecord] = field(default_factory=dict)
    evaluate_metrics_clientapp: dict[int, MetricRecord] = field(default_factory=dict)
    evaluate_metrics_serverapp: dict[int, MetricRecord] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    timings: dict[int, RoundTiming] = field(default_factory=dict)
    stopped_early: bool = False
    privacy: PrivacyStatement | None = None

    @property
    def rounds(self) -> int:
        """The number of rounds that were finished."""
        return len(self.timings)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row for each metric: round, phase, metric, value."""
        phases = {
            "train": self.train_metrics_clientapp,
            "evaluate": self.evaluate_metrics_clientapp,
            "server": self.evaluate_metrics_serverapp,
        }
        return [
            {"round": number, "phase": phase, "metric": name, "value": value}
            for phase, by_round in phases.items()
            for number, metrics in by_round.items()
            for name, value in metrics.items()
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """Return all metrics as a frame: one row a round, one column a phase and metric.

        Raises
        ------
        MissingDependency
            pandas is not installed.
        """
        from umbel.serverapp.tables import to_frame

        return to_frame(self.to_rows())

    def plot(self, path: Path | str | None = None) -> Figure:
        """Draw all metrics by round; write the picture to ``path`` (PNG, SVG or PDF) if given.

        Raises
        ------
        MissingDependency
            matplotlib is not installed.
        """
        from umbel.serverapp.plots import plot_metrics

        return plot_metrics(self.to_rows(), path)
