"""1797 handwritten digits of 8 x 8 pixels, cut into clients that differ in what they hold."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from umbel.partition import dirichlet

TEST_SIZE = 360


@cache
def split():
    """Return the training and the test data, each as (images, labels)."""
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    test, train = order[:TEST_SIZE], order[TEST_SIZE:]
    return (images[train], digits.target[train]), (images[test], digits.target[test])


@cache
def partitions(num_partitions, alpha):
    """Return, for each client, the indices of the images that belong to it."""
    (_, labels), _ = split()
    return dirichlet(labels, num_partitions, alpha, min_partition_size=1, seed=0)


def of_client(context):
    """Return (images, labels) for training and for validation of the client that runs."""
    (images, labels), _ = split()
    node = context.node_config
    parts = partitions(node["num-partitions"], context.run_config["alpha"])
    mine = parts[node["partition-id"]]
    # Every tenth image tells the client how well the model does on what it did not train on.
    held_out = np.arange(len(mine)) % 10 == 0
    train, validation = mine[~held_out], mine[held_out]
    return (images[train], labels[train]), (images[validation], labels[validation])
