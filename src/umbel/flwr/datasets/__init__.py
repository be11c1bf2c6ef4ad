"""Flower Datasets' names over ``umbel.partition``: ``import flwr_datasets`` means this."""

from umbel.flwr.datasets.federated import FederatedDataset
from umbel.flwr.datasets.served import metrics, partitioner, preprocessor, utils, visualization

__all__ = [
    "FederatedDataset",
    "metrics",
    "partitioner",
    "preprocessor",
    "utils",
    "visualization",
]
