"""Strategies: one paper, one short class."""

from umbel.strategies.fedadam import FedAdam
from umbel.strategies.fedavg import FedAvg, FedAvgOptions, MetricsAggrFn
from umbel.strategies.fedavgm import FedAvgM

__all__ = ["FedAdam", "FedAvg", "FedAvgM", "FedAvgOptions", "MetricsAggrFn"]
