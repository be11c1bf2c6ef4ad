"""Strategies: one paper, one short class."""

from umbel.strategies.compression import Compressed, with_compression
from umbel.strategies.fedadam import FedAdam
from umbel.strategies.fedavg import FedAvg, FedAvgOptions, MetricsAggrFn
from umbel.strategies.fedavgm import FedAvgM
from umbel.strategies.feddyn import FedDyn
from umbel.strategies.fednova import FedNova
from umbel.strategies.fedper import FedBN, FedPer
from umbel.strategies.scaffold import Scaffold

__all__ = [
    "Compressed",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedAvgOptions",
    "FedBN",
    "FedDyn",
    "FedNova",
    "FedPer",
    "MetricsAggrFn",
    "Scaffold",
    "with_compression",
]
