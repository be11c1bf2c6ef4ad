"""Cutting a data set into clients, and showing how different the clients are."""

from umbel.partition.by_sizes import by_sizes
from umbel.partition.continuous import continuous
from umbel.partition.dirichlet import dirichlet
from umbel.partition.distribution import distribution
from umbel.partition.grouped_natural_id import grouped_natural_id
from umbel.partition.growth import exponential, id_to_size, linear, square
from umbel.partition.heterogeneity import Heterogeneity, heterogeneity
from umbel.partition.iid import iid
from umbel.partition.inner_dirichlet import inner_dirichlet
from umbel.partition.label_counts import LabelCounts, label_counts
from umbel.partition.natural_id import natural_id
from umbel.partition.pathological import pathological
from umbel.partition.plot import plot_label_distributions
from umbel.partition.shards import shards
from umbel.partition.vertical import vertical_even, vertical_sizes

__all__ = [
    "Heterogeneity",
    "LabelCounts",
    "by_sizes",
    "continuous",
    "dirichlet",
    "distribution",
    "exponential",
    "grouped_natural_id",
    "heterogeneity",
    "id_to_size",
    "iid",
    "inner_dirichlet",
    "label_counts",
    "linear",
    "natural_id",
    "pathological",
    "plot_label_distributions",
    "shards",
    "square",
    "vertical_even",
    "vertical_sizes",
]
