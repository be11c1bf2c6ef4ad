"""1797 handwritten digits; clients/typescript/examples/digits.ts deals them out in the same way."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits


@cache
def split():
    """Return the training and the test data, each as (images, labels): every fifth is a test."""
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    is_test = np.arange(len(images)) % 5 == 0
    train = images[~is_test], digits.target[~is_test]
    return train, (images[is_test], digits.target[is_test])


def of_client(context):
    """Return (images, labels) of the client that runs: every n-th of the training data."""
    (images, labels), _ = split()
    node = context.node_config
    mine = np.arange(len(images)) % node["num-partitions"] == node["partition-id"]
    return images[mine], labels[mine]
