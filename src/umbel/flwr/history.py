"""What the older API's rounds leave behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from umbel.flwr.instructions import Metrics, Scalar

Losses = list[tuple[int, float]]
ByName = dict[str, list[tuple[int, Scalar]]]


@dataclass
class History:
    """Losses and metrics by round."""

    losses_distributed: Losses = field(default_factory=list)
    losses_centralized: Losses = field(default_factory=list)
    metrics_distributed_fit: ByName = field(default_factory=dict)
    metrics_distributed: ByName = field(default_factory=dict)
    metrics_centralized: ByName = field(default_factory=dict)

    def add_loss_distributed(self, server_round: int, loss: float) -> None:
        """Add the clients' loss."""
        self.losses_distributed.append((server_round, loss))

    def add_loss_centralized(self, server_round: int, loss: float) -> None:
        """Add the server's loss."""
        self.losses_centralized.append((server_round, loss))

    def add_metrics_distributed_fit(self, server_round: int, metrics: Metrics) -> None:
        """Add the clients' metrics of training."""
        _add(self.metrics_distributed_fit, server_round, metrics)

    def add_metrics_distributed(self, server_round: int, metrics: Metrics) -> None:
        """Add the clients' metrics of evaluation."""
        _add(self.metrics_distributed, server_round, metrics)

    def add_metrics_centralized(self, server_round: int, metrics: Metrics) -> None:
        """Add the server's metrics."""
        _add(self.metrics_centralized, server_round, metrics)


def _add(by_name: ByName, server_round: int, metrics: Metrics) -> None:
    for name, value in metrics.items():
        by_name.setdefault(name, []).append((server_round, value))
