"""569 tumours, each with 30 measurements and a diagnosis, spread over hospitals."""

from functools import cache

import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from umbel.partition import dirichlet


@cache
def split():
    """Return train measurements, test measurements, train diagnoses, test diagnoses."""
    measurements, diagnoses = load_breast_cancer(return_X_y=True)
    return train_test_split(measurements, diagnoses, test_size=0.25, random_state=0)


@cache
def partitions(num_partitions, alpha):
    """Return, for each hospital, the indices of its patients."""
    _, _, diagnoses, _ = split()
    return dirichlet(diagnoses, num_partitions, alpha, min_partition_size=20, seed=0)


def of_client(context):
    """Return the patients of the hospital that runs."""
    measurements, _, diagnoses, _ = split()
    node = context.node_config
    parts = partitions(node["num-partitions"], context.run_config["alpha"])
    mine = parts[node["partition-id"]]
    return xgboost.DMatrix(measurements[mine], diagnoses[mine], nthread=1)


def of_server():
    """Return patients of no hospital."""
    _, measurements, _, diagnoses = split()
    return xgboost.DMatrix(measurements, diagnoses, nthread=1)
