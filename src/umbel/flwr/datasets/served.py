"""Which module of ``flwr_datasets`` has which names, and where each of them lies in Umbel."""

from __future__ import annotations

from umbel.flwr.serving import Names, ServedPackage

_HERE = "umbel.flwr.datasets"


def _names(module: str, words: str) -> Names:
    return {word: f"{_HERE}.{module}:{word}" for word in words.split()}


_FEDERATED = _names("federated", "FederatedDataset")
_COUNTS = _names("counts", "compute_counts compute_frequencies")
_PLOTS = _names("plots", "plot_comparison_label_distribution plot_label_distributions")
_PARTITIONERS = {
    **_names("partitioners", "Partitioner"),
    **_names(
        "by_size",
        "ExponentialPartitioner IdToSizeFncPartitioner IidPartitioner LinearPartitioner "
        "SizePartitioner SquarePartitioner",
    ),
    **_names(
        "by_column",
        "ContinuousPartitioner DirichletPartitioner DistributionPartitioner "
        "InnerDirichletPartitioner PathologicalPartitioner ShardPartitioner",
    ),
    **_names("by_id", "GroupedNaturalIdPartitioner NaturalIdPartitioner"),
    **_names("vertical", "VerticalEvenPartitioner VerticalSizePartitioner"),
}
_FILES = {
    "continuous_partitioner": "ContinuousPartitioner",
    "dirichlet_partitioner": "DirichletPartitioner",
    "distribution_partitioner": "DistributionPartitioner",
    "exponential_partitioner": "ExponentialPartitioner",
    "grouped_natural_id_partitioner": "GroupedNaturalIdPartitioner",
    "id_to_size_fnc_partitioner": "IdToSizeFncPartitioner",
    "iid_partitioner": "IidPartitioner",
    "inner_dirichlet_partitioner": "InnerDirichletPartitioner",
    "linear_partitioner": "LinearPartitioner",
    "natural_id_partitioner": "NaturalIdPartitioner",
    "partitioner": "Partitioner",
    "pathological_partitioner": "PathologicalPartitioner",
    "shard_partitioner": "ShardPartitioner",
    "size_partitioner": "SizePartitioner",
    "square_partitioner": "SquarePartitioner",
    "vertical_even_partitioner": "VerticalEvenPartitioner",
    "vertical_size_partitioner": "VerticalSizePartitioner",
}

MODULES: dict[str, Names] = {
    "": _FEDERATED,
    "federated_dataset": _FEDERATED,
    "metrics": _COUNTS,
    "metrics.utils": _COUNTS,
    "partitioner": _PARTITIONERS,
    **{f"partitioner.{file}": {name: _PARTITIONERS[name]} for file, name in _FILES.items()},
    "preprocessor": _names("preprocessors", "Divider Merger Preprocessor"),
    "preprocessor.divider": _names("preprocessors", "Divider"),
    "preprocessor.merger": _names("preprocessors", "Merger"),
    "utils": _names("division", "concatenate_divisions divide_dataset"),
    "visualization": _PLOTS,
    "visualization.comparison_label_distribution": _names(
        "plots", "plot_comparison_label_distribution"
    ),
    "visualization.label_distribution": _names("plots", "plot_label_distributions"),
}
"""Every module that is served, by its name below ``flwr_datasets``."""

FLWR_DATASETS = ServedPackage("flwr_datasets", _HERE, "0.6.1", MODULES)

metrics = FLWR_DATASETS.modules["metrics"]
partitioner = FLWR_DATASETS.modules["partitioner"]
preprocessor = FLWR_DATASETS.modules["preprocessor"]
utils = FLWR_DATASETS.modules["utils"]
visualization = FLWR_DATASETS.modules["visualization"]
